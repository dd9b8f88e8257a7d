"use strict";
/* The model: started once from the text in model.js and runtime.js, then asked, one image at a time. */

function bytesOf(text) {
  return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
}

async function unpacked(text) {
  const packed = new Blob([bytesOf(text)]).stream();
  return new Response(packed.pipeThrough(new DecompressionStream("gzip"))).arrayBuffer();
}

function softmax(logits) {
  const highest = Math.max(...logits);
  const powers = logits.map((logit) => Math.exp(logit - highest));
  const sum = powers.reduce((total, power) => total + power, 0);
  return powers.map((power) => power / sum);
}

class Classifier {
  #library;
  #session;
  #last = Promise.resolve();

  /* model: the content of model.js. */
  constructor(model) {
    this.model = model;
  }

  /* Start the runtime. A page from disk may import what it made itself, and nothing else; threads it may not have. */
  async start(runtime) {
    if (typeof WebAssembly === "undefined" || typeof DecompressionStream === "undefined") {
      throw new Error("this browser lacks WebAssembly or DecompressionStream: use one of 2023 or newer");
    }
    const address = URL.createObjectURL(new Blob([bytesOf(runtime.script)], { type: "text/javascript" }));
    this.#library = await import(address);
    URL.revokeObjectURL(address);
    this.#library.env.wasm.numThreads = 1;
    this.#library.env.wasm.wasmBinary = await unpacked(runtime.binary);
    this.#session = await this.#library.InferenceSession.create(bytesOf(this.model.content), { executionProviders: ["wasm"] });
  }

  /* pixels: Uint8Array of H x W x C. Resolves to the probabilities, one number per class. */
  async probabilities(pixels) {
    const answer = await this.#answer(pixels);
    return this.model.output.logits ? softmax(answer) : answer;
  }

  /* One run at a time, in the order of the calls. */
  #answer(pixels) {
    const next = this.#last.then(() => this.#run(pixels));
    this.#last = next.catch(() => {});
    return next;
  }

  async #run(pixels) {
    const { name, height, width, channels } = this.model.input;
    const images = new this.#library.Tensor("uint8", pixels, [1, height, width, channels]);
    const answers = await this.#session.run({ [name]: images }, [this.model.output.name]);
    return Array.from(answers[this.model.output.name].data);
  }

  /* The pixels of every example that the model came with. */
  examples() {
    const { height, width, channels } = this.model.input;
    const all = bytesOf(this.model.examples.pixels);
    const size = height * width * channels;
    return Array.from({ length: this.model.examples.count }, (_, index) => all.slice(index * size, (index + 1) * size));
  }

  /* How far the answers here are from those of the export, at most, and whether that is allowed: the rule of verify.py. */
  async check() {
    const content = new DataView(bytesOf(this.model.answers).buffer);
    const count = this.model.classes.length;
    let difference = 0;
    let same = true;
    for (const [index, pixels] of this.examples().entries()) {
      const answer = await this.#answer(pixels);
      const expected = answer.map((_, at) => content.getFloat32(4 * (index * count + at), true));
      const apart = Math.max(...answer.map((value, at) => Math.abs(value - expected[at])));
      difference = Math.max(difference, apart);
      same = same && apart <= this.model.tolerance * Math.max(1, ...expected.map(Math.abs));
    }
    return { difference, same };
  }
}
