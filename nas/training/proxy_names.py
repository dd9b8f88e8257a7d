"""What settings and searches have to know of zero-cost proxies, without PyTorch; the measures are in nas.training.proxies."""

from typing import Literal

Name = Literal["synflow", "logsynflow", "naswot", "jacob_cov", "snip", "grad_norm", "parameters", "flops"]
"""The measures by name."""


class ProxyError(ValueError):
    """A measure that says nothing about this network; the message names the measure."""
