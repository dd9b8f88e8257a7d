"""The part of Triton's ModelConfig message that a bundle uses, so that protobuf itself reads the configuration back."""

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

TYPES = ("INVALID", "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "FP32", "FP64")
FIELDS = {
    "Reshape": {"shape": "int64*"},
    "Port": {"name": "string", "data_type": "DataType", "dims": "int64*", "reshape": "Reshape", "label_filename": "string"},
    "Batching": {"preferred_batch_size": "int32*", "max_queue_delay_microseconds": "uint64"},
    "Config": {
        "name": "string",
        "backend": "string",
        "max_batch_size": "int32",
        "input": "Port*",
        "output": "Port*",
        "dynamic_batching": "Batching",
    },
}


def parse(text: str) -> Any:
    """The configuration as a message; protobuf's ParseError for an unknown field, a wrong type or a name that is no data type."""
    file = descriptor_pb2.FileDescriptorProto(name="triton.proto", package="triton", syntax="proto3")
    types = file.enum_type.add(name="DataType")
    for number, name in enumerate(TYPES):
        types.value.add(name=f"TYPE_{name}", number=number)
    kinds = descriptor_pb2.FieldDescriptorProto
    for message, fields in FIELDS.items():
        made = file.message_type.add(name=message)
        for number, (name, kind) in enumerate(fields.items(), start=1):
            field = made.field.add(name=name, number=number)
            field.label = kinds.LABEL_REPEATED if kind.endswith("*") else kinds.LABEL_OPTIONAL
            kind = kind.rstrip("*")
            if kind in FIELDS:
                field.type, field.type_name = kinds.TYPE_MESSAGE, f".triton.{kind}"
            elif kind == "DataType":
                field.type, field.type_name = kinds.TYPE_ENUM, ".triton.DataType"
            else:
                field.type = getattr(kinds, f"TYPE_{kind.upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    config = message_factory.GetMessageClass(pool.FindMessageTypeByName("triton.Config"))
    return text_format.Parse(text, config())
