// One picture on one or two canvases: drawn with its window, heat, zoom and place.
import { PLAIN, sheet, toned } from "./pixels.js";

const MOST = 16; // times the whole picture

export class Stage {
  tone = { ...PLAIN };
  opacity = 0.7; // of the heat, 0 when it is hidden
  #plain;
  #laid;
  #moved;
  #pixels = null;
  #sheet = null;
  #stale = true; // whether the sheet has another window than `tone`
  #heat = null; // {canvas, inside}
  #view = { zoom: 1, x: 0.5, y: 0.5 }; // x, y: the picture's place in the middle, 0 to 1
  #frame = 0;

  /** `plain` shows the picture alone, `laid` the picture and heat; `moved(zoom)` after each drawing. */
  constructor(plain, laid, moved) {
    [this.#plain, this.#laid, this.#moved] = [plain, laid, moved];
    const watcher = new ResizeObserver(() => this.draw());
    watcher.observe(plain);
    watcher.observe(laid);
  }

  /** Another picture, or the same one sharper, which leaves the view as it is. */
  show(pixels, heat, sharper = false) {
    this.#pixels = pixels;
    this.#sheet = pixels && sheet(pixels.width, pixels.height);
    this.#heat = heat;
    this.#stale = true;
    if (!sharper) this.#view = { zoom: 1, x: 0.5, y: 0.5 };
    this.draw();
  }

  set window(tone) {
    this.tone = { ...this.tone, ...tone };
    this.#stale = true;
    this.draw();
  }

  get zoom() {
    return this.#view.zoom;
  }

  /** Screen pixels for one of the picture's. */
  get magnification() {
    return this.#pixels ? this.#geometry(this.#laid).scale : 0;
  }

  /** Zooms; the place under (x, y) of the window stays where it is, without one the middle. */
  zoomBy(factor, at = null, canvas = this.#laid) {
    if (!this.#pixels) return;
    const before = this.#geometry(canvas);
    const zoom = Math.min(MOST, Math.max(1, this.#view.zoom * factor));
    const scale = (before.scale * zoom) / this.#view.zoom;
    let [dx, dy] = [0, 0];
    if (at) {
      const box = canvas.getBoundingClientRect();
      [dx, dy] = [at.x - box.left - box.width / 2, at.y - box.top - box.height / 2].map((d) => (d * canvas.width) / box.width);
    }
    const shift = 1 / before.scale - 1 / scale;
    this.#view = { zoom, x: this.#view.x + (dx * shift) / this.#pixels.width, y: this.#view.y + (dy * shift) / this.#pixels.height };
    this.draw();
  }

  whole() {
    this.#view = { zoom: 1, x: 0.5, y: 0.5 };
    this.draw();
  }

  /** Moves the picture by pixels of the window. */
  pan(dx, dy) {
    if (!this.#pixels) return;
    const perPixel = devicePixelRatio / this.#geometry(this.#laid).scale;
    this.#view.x -= (dx * perPixel) / this.#pixels.width;
    this.#view.y -= (dy * perPixel) / this.#pixels.height;
    this.draw();
  }

  draw() {
    cancelAnimationFrame(this.#frame);
    this.#frame = requestAnimationFrame(() => {
      for (const canvas of [this.#plain, this.#laid]) if (canvas.clientWidth) this.#paint(canvas);
      this.#moved(this.#view.zoom);
    });
  }

  #geometry(canvas) {
    const { width, height } = this.#pixels;
    return { scale: this.#view.zoom * Math.min(canvas.width / width, canvas.height / height) };
  }

  /** No empty border on one side while the picture hangs over on the other. */
  #clamp(canvas, scale) {
    for (const [axis, side] of [["x", "width"], ["y", "height"]]) {
      const half = canvas[side] / (2 * scale * this.#pixels[side]);
      this.#view[axis] = half >= 0.5 ? 0.5 : Math.min(1 - half, Math.max(half, this.#view[axis]));
    }
  }

  #paint(canvas) {
    const size = [canvas.clientWidth, canvas.clientHeight].map((side) => Math.round(side * devicePixelRatio));
    if (canvas.width !== size[0] || canvas.height !== size[1]) [canvas.width, canvas.height] = size;
    const context = canvas.getContext("2d");
    context.globalAlpha = 1;
    context.fillStyle = "#000";
    context.fillRect(0, 0, canvas.width, canvas.height);
    if (!this.#pixels) return;
    if (this.#stale) toned(this.#pixels, this.tone, this.#sheet);
    this.#stale = false;
    const { scale } = this.#geometry(canvas);
    this.#clamp(canvas, scale);
    const [width, height] = [this.#pixels.width * scale, this.#pixels.height * scale];
    const place = [canvas.width / 2 - this.#view.x * width, canvas.height / 2 - this.#view.y * height, width, height];
    context.imageSmoothingQuality = "high";
    context.drawImage(this.#sheet, ...place);
    if (canvas !== this.#laid || !this.#heat || !this.opacity) return;
    const { left, top, width: w, height: h } = this.#heat.inside;
    context.globalAlpha = this.opacity;
    context.drawImage(this.#heat.canvas, left, top, w, h, ...place);
  }
}
