"use strict";
/* Strokes as a person draws them, by mouse, finger, pen or keyboard, and the pixels that the model gets of them. */

const SHEET_PIXELS = 420;
const KEY_STEP = 1 / 24;
const LARGEST_ENLARGEMENT = 4;
const USUAL_LENGTH = 2.2; // of all strokes of a letter or digit, in its heights
const USUAL_PEN = 0.08;

/* What the examples tell of the drawings that the model knows: is ink light, does it lie on empty paper, where in the frame, and how
   wide is the pen. Lengths are shares of the frame. */
function habits(examples, { height, width, channels }) {
  const at = (pixels, row, column) => pixels[(row * width + column) * channels];
  const corners = examples.flatMap((pixels) => [0, height - 1].flatMap((row) => [0, width - 1].map((column) => at(pixels, row, column))));
  const paper = corners.sort((a, b) => a - b)[corners.length >> 1] ?? 0;
  const empty = corners.filter((value) => Math.abs(value - paper) <= 32).length;
  const boxes = examples.map((pixels) => boxOf((row, column) => Math.abs(at(pixels, row, column) - paper) > 64, height, width));
  const onPaper = corners.length > 0 && empty >= 0.8 * corners.length && (paper <= 48 || paper >= 207);
  const box = typicalBox(boxes.filter(({ left, right }) => right > left), height, width);
  const mass = (pixels) => pixels.reduce((sum, value) => sum + Math.abs(value - paper), 0) / 255 / channels;
  const masses = examples.reduce((sum, pixels) => sum + mass(pixels), 0) / examples.length;
  const pen = masses / (USUAL_LENGTH * box.height * height) / Math.min(height, width);
  return { lightInk: paper < 128, onPaper, box, pen: onPaper ? Math.min(0.25, Math.max(0.02, pen)) : USUAL_PEN };
}

/* The smallest box around every place that is ink, in pixels; one without width where there is none. */
function boxOf(isInk, height, width) {
  const box = { top: height, bottom: 0, left: width, right: 0 };
  for (let row = 0; row < height; row += 1) {
    for (let column = 0; column < width; column += 1) {
      if (isInk(row, column)) {
        box.top = Math.min(box.top, row);
        box.bottom = row + 1;
        box.left = Math.min(box.left, column);
        box.right = Math.max(box.right, column + 1);
      }
    }
  }
  return box;
}

/* The middle of the boxes around the ink, their usual height and their largest width, in shares of the frame. */
function typicalBox(boxes, height, width) {
  if (boxes.length === 0) {
    return { x: 0.5, y: 0.5, width: 0.7, height: 0.7 };
  }
  const mean = (measure) => boxes.reduce((sum, box) => sum + measure(box), 0) / boxes.length;
  return {
    x: mean((box) => box.left + box.right) / 2 / width,
    y: mean((box) => box.top + box.bottom) / 2 / height,
    width: Math.max(...boxes.map((box) => box.right - box.left)) / width,
    height: mean((box) => box.bottom - box.top) / height,
  };
}

class Drawing {
  #strokes = [];
  #drawing = false;
  #pen = null;
  #picture = null;

  /* canvas: the sheet. frame: the model's input. box: where ink usually lies. changed: called after every change. */
  constructor(canvas, frame, box, changed) {
    canvas.style.maxWidth = `${(70 * frame.width) / frame.height}vh`;
    Object.assign(this, { canvas, frame, box, changed, width: USUAL_PEN, ink: "#ffffff", paper: "#000000", fit: false });
    this.factor = Math.max(1, Math.ceil(SHEET_PIXELS / Math.max(frame.height, frame.width)));
    canvas.width = frame.width * this.factor;
    canvas.height = frame.height * this.factor;
    this.hidden = canvasOf(canvas.width, canvas.height);
    canvas.addEventListener("pointerdown", (event) => this.#down(event));
    canvas.addEventListener("pointermove", (event) => this.#move(event));
    for (const name of ["pointerup", "pointercancel"]) {
      canvas.addEventListener(name, () => this.#lift());
    }
    canvas.addEventListener("keydown", (event) => this.#key(event));
    canvas.addEventListener("blur", () => this.#putAside());
  }

  get empty() {
    return this.#strokes.length === 0;
  }

  /* Put a picture on the sheet, a canvas; the next stroke begins on empty paper. */
  lay(picture) {
    this.#strokes = [];
    this.#picture = picture;
    this.paint();
  }

  clear() {
    this.lay(null);
    this.changed();
  }

  undo() {
    if (this.empty) {
      return;
    }
    this.#lift();
    this.#strokes.pop();
    this.paint();
    this.changed();
  }

  /* Paint the sheet as it was drawn. */
  paint() {
    this.#render(this.canvas, (point) => point);
    const context = this.canvas.getContext("2d");
    if (this.#picture !== null) {
      context.imageSmoothingEnabled = this.#picture.width >= 128;
      context.drawImage(this.#picture, 0, 0, this.canvas.width, this.canvas.height);
    }
    if (this.#pen !== null) {
      this.#ring(context);
    }
  }

  /* The strokes as the model's pixels, moved to where ink usually lies when `fit` is set: Uint8Array of H x W x C. */
  pixels() {
    const context = this.#render(this.hidden, this.fit ? this.#fitted() : (point) => point);
    return averaged(context.getImageData(0, 0, this.hidden.width, this.hidden.height), this.factor, this.frame);
  }

  #render(canvas, place) {
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.fillStyle = this.paper;
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.strokeStyle = this.ink;
    context.lineWidth = this.width * Math.min(canvas.width, canvas.height);
    context.lineCap = context.lineJoin = "round";
    for (const stroke of this.#strokes) {
      context.beginPath();
      for (const point of stroke) {
        const { x, y } = place(point);
        context.lineTo(x * canvas.width, y * canvas.height);
        context.lineTo(x * canvas.width + 0.01, y * canvas.height); // a line of no length need not be drawn, and a dot is one
      }
      context.stroke();
    }
    return context;
  }

  /* Moves and scales points so that the ink fills the usual box; the pen keeps its width. */
  #fitted() {
    const points = this.#strokes.flat();
    const [left, right] = [Math.min(...points.map(({ x }) => x)), Math.max(...points.map(({ x }) => x))];
    const [top, bottom] = [Math.min(...points.map(({ y }) => y)), Math.max(...points.map(({ y }) => y))];
    const { width, height } = this.canvas;
    const pen = this.width * Math.min(width, height);
    const room = (share, size) => Math.max(share - pen / size, pen / size);
    const scale = Math.min(
      room(this.box.width, width) / Math.max(right - left, 1e-6),
      room(this.box.height, height) / Math.max(bottom - top, 1e-6),
      LARGEST_ENLARGEMENT,
    );
    const moved = (value, from, to, middle) => middle + (value - (from + to) / 2) * scale;
    return ({ x, y }) => ({ x: moved(x, left, right, this.box.x), y: moved(y, top, bottom, this.box.y) });
  }

  #point(event) {
    const { left, top, width, height } = this.canvas.getBoundingClientRect();
    return { x: (event.clientX - left) / width, y: (event.clientY - top) / height };
  }

  #down(event) {
    if (event.button !== 0 || !event.isPrimary) {
      return;
    }
    this.canvas.setPointerCapture(event.pointerId);
    this.#pen = null;
    this.#begin(this.#point(event));
  }

  #move(event) {
    if (this.#drawing && event.isPrimary) {
      const passed = event.getCoalescedEvents?.() ?? [];
      this.#add(...(passed.length ? passed : [event]).map((each) => this.#point(each)));
    }
  }

  #begin(point) {
    this.#picture = null;
    this.#drawing = true;
    this.#strokes.push([]);
    this.#add(point);
  }

  #add(...points) {
    this.#strokes.at(-1).push(...points);
    this.paint();
    this.changed();
  }

  #lift() {
    this.#drawing = false;
  }

  #putAside() {
    this.#lift();
    this.#pen = null;
    this.paint();
  }

  #key(event) {
    const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    if (event.key in steps) {
      this.#step(...steps[event.key]);
    } else if (event.key === " " && !event.repeat) {
      this.#pen ??= { x: 0.5, y: 0.5 };
      this.#drawing ? this.#lift() : this.#begin(this.#pen);
      this.paint();
    } else if (event.key === "Delete" || event.key === "Backspace") {
      this.#lift();
      this.clear();
    } else {
      return;
    }
    event.preventDefault();
  }

  #step(right, down) {
    const inside = (value) => Math.min(1, Math.max(0, value));
    const { x, y } = this.#pen ?? { x: 0.5, y: 0.5 };
    this.#pen = { x: inside(x + right * KEY_STEP), y: inside(y + down * KEY_STEP) };
    if (this.#drawing) {
      this.#add(this.#pen);
    } else {
      this.paint();
    }
  }

  /* Where the keyboard's pen is: filled when it is down. Two colours show on any ground. */
  #ring(context) {
    const side = Math.min(this.canvas.width, this.canvas.height);
    context.beginPath();
    context.arc(this.#pen.x * this.canvas.width, this.#pen.y * this.canvas.height, side * 0.03, 0, 2 * Math.PI);
    for (const [colour, width] of [["#000000", 0.02], ["#ffb000", 0.01]]) {
      context.strokeStyle = context.fillStyle = colour;
      context.lineWidth = width * side;
      context.stroke();
    }
    if (this.#drawing) {
      context.fill();
    }
  }
}
