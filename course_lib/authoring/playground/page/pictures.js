// Pictures on canvases: a network's numbers to pixels and back, heat maps, and a pad to draw on.

/**
 * Paint a picture (3, size, size) in [-1, 1] on a canvas of that size.
 * @param {HTMLCanvasElement} canvas
 * @param {Float32Array} image
 */
export function paint(canvas, image) {
  const pixels = new ImageData(canvas.width, canvas.height);
  pixels.data.set(toBytes(image));
  context(canvas).putImageData(pixels, 0, 0);
}

/** The bytes that a canvas holds, RGBA pixel by pixel, of a picture (3, size, size) in [-1, 1]. */
export function toBytes(/** @type {Float32Array} */ image) {
  const count = image.length / 3;
  const bytes = new Uint8ClampedArray(4 * count).fill(255); // clamps and rounds what it is given
  for (let i = 0; i < count; i++) {
    for (let c = 0; c < 3; c++) bytes[4 * i + c] = (image[c * count + i] + 1) * 127.5;
  }
  return bytes;
}

/** The inverse of `toBytes`. */
export function fromBytes(/** @type {Uint8ClampedArray} */ bytes) {
  const count = bytes.length / 4;
  const image = new Float32Array(3 * count);
  for (let i = 0; i < count; i++) {
    for (let c = 0; c < 3; c++) image[c * count + i] = bytes[4 * i + c] / 127.5 - 1;
  }
  return image;
}

const COLD = [0, 32, 77];
const HOT = [255, 233, 69]; // the ends of matplotlib's cividis

/**
 * Paint where a word was looked at, from least (dark blue) to most (yellow), over the whole canvas.
 * @param {HTMLCanvasElement} canvas
 * @param {Float32Array} heat (side, side)
 */
export function paintHeat(canvas, heat) {
  const side = Math.sqrt(heat.length);
  const [low, high] = [Math.min(...heat), Math.max(...heat)];
  const pixels = new ImageData(side, side);
  heat.forEach((value, i) => {
    const share = (value - low) / (high - low || 1);
    const colour = COLD.map((cold, c) => cold + share * (HOT[c] - cold));
    pixels.data.set([...colour, 190], 4 * i);
  });
  const small = Object.assign(document.createElement("canvas"), { width: side, height: side });
  context(small).putImageData(pixels, 0, 0);
  context(canvas).clearRect(0, 0, canvas.width, canvas.height);
  context(canvas).drawImage(small, 0, 0, canvas.width, canvas.height); // smoothly enlarged
}

/** A pad to draw on with a pen, a finger or a mouse. */
export class Pad {
  /** @param {HTMLCanvasElement} canvas */
  constructor(canvas) {
    this.canvas = canvas;
    this.colour = "white";
    this.width = 40;
    this.onchange = () => {};
    /** @type {[number, number]} where the pen was */
    this.last = [0, 0];
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      this.last = this.place(event);
      this.stroke(event);
    });
    canvas.addEventListener("pointermove", (event) => {
      if (event.buttons) this.stroke(event);
    });
  }

  /** @returns {[number, number]} */
  place(/** @type {PointerEvent} */ event) {
    const scale = this.canvas.width / this.canvas.clientWidth;
    return [event.offsetX * scale, event.offsetY * scale];
  }

  stroke(/** @type {PointerEvent} */ event) {
    const pen = context(this.canvas);
    const [[x0, y0], [x1, y1]] = [this.last, this.place(event)];
    Object.assign(pen, { strokeStyle: this.colour, lineWidth: this.width, lineCap: "round" });
    pen.beginPath();
    pen.moveTo(x0, y0);
    pen.lineTo(x1, y1);
    pen.stroke();
    this.last = [x1, y1];
    this.onchange();
  }

  fill() {
    const pen = context(this.canvas);
    pen.fillStyle = this.colour;
    pen.fillRect(0, 0, this.canvas.width, this.canvas.height);
    this.onchange();
  }

  copy(/** @type {HTMLCanvasElement} */ picture) {
    context(this.canvas).drawImage(picture, 0, 0, this.canvas.width, this.canvas.height);
    this.onchange();
  }

  /** What is drawn, as a picture (3, size, size) in [-1, 1]. */
  image(/** @type {number} */ size) {
    const small = Object.assign(document.createElement("canvas"), { width: size, height: size });
    context(small).imageSmoothingQuality = "high";
    context(small).drawImage(this.canvas, 0, 0, size, size);
    return fromBytes(context(small).getImageData(0, 0, size, size).data);
  }
}

function context(/** @type {HTMLCanvasElement} */ canvas) {
  const found = canvas.getContext("2d", { willReadFrequently: true });
  return /** @type {CanvasRenderingContext2D} */ (found);
}
