"use strict";
/* What a person does becomes an image, the image becomes an answer, and the answer is shown. */

const MOST_BARS = 12;
const SPOKEN_AFTER = 700;
const element = (id) => document.getElementById(id);

function complain(problem) {
  element("problem").textContent = problem ? `${problem.message ?? problem}` : "";
  element("problem").hidden = !problem;
}

/* The bars: one per class in their order, or the likeliest of many. */
class Answer {
  #rows = [];
  #timer = 0;

  constructor(classes) {
    this.classes = classes;
    for (let index = 0; index < Math.min(classes.length, MOST_BARS); index += 1) {
      this.#rows.push(this.#row(index));
    }
    element("classes").append(...this.#rows.map((row) => row.item));
  }

  #row(index) {
    const item = document.createElement("li");
    const [name, bar, fill, share] = ["span", "div", "span", "span"].map((tag) => document.createElement(tag));
    name.className = "name";
    name.id = `class-${index}`;
    bar.className = "bar";
    bar.setAttribute("role", "meter");
    bar.setAttribute("aria-labelledby", name.id);
    bar.setAttribute("aria-valuemin", "0");
    bar.setAttribute("aria-valuemax", "1");
    bar.append(fill);
    share.className = "share";
    item.append(name, bar, share);
    return { item, name, bar, fill, share };
  }

  /* probabilities: one number per class, or null for none. */
  show(probabilities) {
    const values = probabilities ?? this.classes.map(() => 0);
    const ranked = values.map((_, index) => index).sort((a, b) => values[b] - values[a] || a - b);
    const shown = this.classes.length > MOST_BARS ? ranked : this.classes.map((_, index) => index);
    for (const [place, row] of this.#rows.entries()) {
      const index = shown[place];
      const share = `${(100 * values[index]).toFixed(1)} %`;
      row.name.textContent = row.name.title = this.classes[index];
      row.bar.setAttribute("aria-valuenow", String(values[index]));
      row.bar.setAttribute("aria-valuetext", share);
      row.fill.style.width = `${100 * values[index]}%`;
      row.share.textContent = probabilities ? share : "";
      row.item.classList.toggle("best", probabilities !== null && index === ranked[0]);
    }
    this.#say(probabilities, ranked[0]);
  }

  #say(probabilities, best) {
    const words = probabilities ? `${this.classes[best]}, ${(100 * probabilities[best]).toFixed(1)} %` : "";
    element("answer").textContent = words || "Nothing drawn yet";
    element("answer").classList.toggle("quiet", !words);
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => { element("spoken").textContent = words; }, SPOKEN_AFTER);
  }
}

class Page {
  #classifier = new Classifier(MODEL);
  #answer = new Answer(MODEL.classes);
  #pixels = null;
  #asked = 0;
  #running = false;

  constructor() {
    this.frame = MODEL.input;
    const examples = this.#classifier.examples();
    const known = habits(examples, this.frame);
    this.drawing = new Drawing(element("sheet"), this.frame, known.box, () => this.#drawn());
    this.drawing.fit = known.onPaper;
    this.drawing.width = known.pen;
    this.#describe();
    this.#offer(examples);
    this.#tools(known);
    this.#files();
    this.#changed(null);
  }

  async start() {
    await this.#classifier.start(RUNTIME);
    document.body.dataset.state = "ready";
    this.#ask();
    const { difference, same } = await this.#classifier.check();
    if (MODEL.examples.count > 0) {
      const found = `differ by ${difference.toExponential(1)} at most from those of the export: ${same ? "as exported" : "not as exported"}`;
      element("check").textContent = `The answers of this browser to ${MODEL.examples.count} examples ${found}.`;
    }
  }

  #describe() {
    const { height, width, channels } = this.frame;
    const title = `Image classifier of ${MODEL.classes.length} classes`;
    document.title = element("title").textContent = title;
    element("seen-size").textContent = `${width} × ${height}, ${channels === 1 ? "grey" : "colour"}`;
    element("about").textContent =
      `model.onnx, ${Math.round(MODEL.bytes / 1024)} KiB, SHA-256 ${MODEL.sha256}; onnxruntime-web ${RUNTIME.version}.`;
  }

  #offer(examples) {
    element("examples-section").hidden = examples.length === 0;
    for (const [index, pixels] of examples.entries()) {
      const button = document.createElement("button");
      const canvas = document.createElement("canvas");
      show(pixels, canvas, this.frame);
      button.type = "button";
      button.setAttribute("aria-label", `Example ${index + 1}`);
      button.setAttribute("aria-pressed", "false");
      button.append(canvas);
      button.addEventListener("click", () => this.#take(pixels, button));
      element("examples").append(button);
    }
  }

  #tools(known) {
    const { drawing } = this;
    const refresh = () => { drawing.paint(); this.#redrawn(); };
    const colours = () => {
      [drawing.ink, drawing.paper] = element("invert").checked ? ["#000000", "#ffffff"] : ["#ffffff", "#000000"];
      element("ink").value = drawing.ink;
      refresh();
    };
    element("ink-label").hidden = this.frame.channels === 1;
    element("fit").checked = drawing.fit;
    element("invert").checked = !known.lightInk;
    element("width").value = String(Math.round(100 * drawing.width));
    element("clear").addEventListener("click", () => drawing.clear());
    element("undo").addEventListener("click", () => drawing.undo());
    element("invert").addEventListener("change", colours);
    element("ink").addEventListener("input", (event) => { drawing.ink = event.target.value; refresh(); });
    element("fit").addEventListener("change", (event) => { drawing.fit = event.target.checked; refresh(); });
    element("width").addEventListener("input", (event) => { drawing.width = event.target.value / 100; refresh(); });
    document.addEventListener("keydown", (event) => {
      if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "z") {
        event.preventDefault();
        drawing.undo();
      }
    });
    colours();
  }

  #files() {
    element("choose").addEventListener("click", () => element("file").click());
    element("file").addEventListener("change", (event) => {
      this.#open(event.target.files[0]);
      event.target.value = "";
    });
    document.addEventListener("paste", (event) => this.#open(event.clipboardData.files[0]));
    document.addEventListener("dragover", (event) => {
      event.preventDefault();
      document.body.classList.add("dropping");
    });
    document.addEventListener("dragleave", (event) => {
      if (event.relatedTarget === null) {
        document.body.classList.remove("dropping");
      }
    });
    document.addEventListener("drop", (event) => {
      event.preventDefault();
      document.body.classList.remove("dropping");
      this.#open(event.dataTransfer.files[0]);
    });
  }

  async #open(file) {
    if (!file) {
      return;
    }
    try {
      this.#take(await pixelsOfFile(file, this.frame), null);
    } catch (problem) {
      complain(problem);
    }
  }

  /* Lay given pixels on the sheet; `button` is the example that they are, or null. */
  #take(pixels, button) {
    const picture = document.createElement("canvas");
    show(pixels, picture, this.frame);
    this.drawing.lay(picture);
    this.#press(button);
    this.#changed(pixels);
  }

  #press(button) {
    for (const each of element("examples").children) {
      each.setAttribute("aria-pressed", String(each === button));
    }
  }

  #drawn() {
    this.#press(null);
    this.#changed(this.drawing.empty ? null : this.drawing.pixels());
  }

  /* After a change of the pen or the paper: a picture stays what it is. */
  #redrawn() {
    if (!this.drawing.empty) {
      this.#changed(this.drawing.pixels());
    }
  }

  #changed(pixels) {
    complain(null);
    this.#pixels = pixels;
    this.#asked += 1;
    show(pixels ?? this.drawing.pixels(), element("seen"), this.frame);
    this.#ask();
  }

  /* Ask the model for the latest image; while it runs, older ones are passed over. It runs on the page's own thread, so that a slow
     model is asked less often. */
  async #ask() {
    if (this.#running || document.body.dataset.state !== "ready") {
      return;
    }
    this.#running = true;
    try {
      for (let answered = -1; answered !== this.#asked; ) {
        answered = this.#asked;
        const began = performance.now();
        const probabilities = this.#pixels && (await this.#classifier.probabilities(this.#pixels));
        this.#answer.show(probabilities);
        document.body.dataset.answered = String(answered);
        await new Promise((resolve) => setTimeout(resolve, performance.now() - began));
      }
    } catch (problem) {
      complain(`The model cannot be run: ${problem.message ?? problem}`);
    } finally {
      this.#running = false;
    }
  }
}

new Page().start().catch((problem) => {
  element("answer").textContent = "";
  complain(`The model cannot be started: ${problem.message ?? problem}`);
});
