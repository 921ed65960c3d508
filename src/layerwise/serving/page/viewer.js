// The viewer: one case's picture and heat, and the controls for them.
import { byId, element } from "./elements.js";
import { watchGestures } from "./gestures.js";
import { Pictures, SHARP, SIZE } from "./pictures.js";
import { PLAIN } from "./pixels.js";
import { Stage } from "./stage.js";

const RAPID = 250; // ms between two cases when a key is held down
const STEP = 1.4; // of zooming

export class Viewer {
  #model = null;
  #item = null;
  #found = null; // the picture that is shown
  #pictures = new Pictures();
  #asked = new AbortController();
  #last = 0; // when another case was shown
  #sharper = 0; // the timer of a sharper picture
  #shown = true; // the heat
  #beside = false;
  #toning = false; // dragging sets the window
  #stage;
  #step;
  #back;
  #following;

  /** `step(by)` goes to another case, `back()` to the list; `following()` is what may be next. */
  constructor({ step, back, following }) {
    [this.#step, this.#back, this.#following] = [step, back, following];
    this.#stage = new Stage(byId("plain"), byId("laid"), () => this.#drawn());
    watchGestures(byId("stage"), {
      zoom: (factor, at, canvas) => this.#stage.zoomBy(factor, at, canvas),
      pan: (dx, dy) => this.#stage.pan(dx, dy),
      tone: (dx, dy) => this.#window({ width: this.#stage.tone.width + dx / 3, level: this.#stage.tone.level + dy / 4 }),
      toggle: (at, canvas) => (this.#stage.zoom > 1 ? this.#stage.whole() : this.#stage.zoomBy(3, at, canvas)),
      state: () => ({ zoomed: this.#stage.zoom > 1, toning: this.#toning }),
    });
    this.#wire();
  }

  set model(model) {
    this.#model = model;
    this.#pictures.clear();
    byId("label").replaceChildren(
      element("option", { value: "" }, "what was decided"),
      ...model.labels.map((label) => element("option", { value: label }, label)),
    );
    byId("heat-controls").hidden = !model.explanation?.cut;
  }

  show(item) {
    this.#item = item;
    byId("case-name").textContent = item?.name ?? "No case chosen";
    byId("case-name").title = item?.name ?? "";
    this.#load();
  }

  clear() {
    this.#pictures.clear();
    this.show(null);
  }

  focus() {
    byId("stage").focus();
  }

  /** On a small screen the list stands below: back up to the picture. */
  reveal() {
    const { top, bottom } = byId("stage").getBoundingClientRect();
    if (bottom < innerHeight / 3 || top > innerHeight / 2) byId("workbench").scrollIntoView();
  }

  /** The picture of the case, or why there is none. Never another case's. */
  async #load() {
    this.#asked.abort();
    this.#asked = new AbortController();
    const { signal } = this.#asked;
    const [item, label, rapid] = [this.#item, byId("label").value, performance.now() - this.#last < RAPID];
    this.#last = performance.now();
    this.#display(null);
    if (!item) return this.#say("");
    if (item.state === "error") return this.#say(item.error.detail);
    if (item.state !== "done") return this.#say("Waiting for its turn…");
    this.#say("Reading the picture…");
    try {
      if (rapid) await new Promise((done) => setTimeout(done, RAPID / 2));
      if (signal.aborted) return;
      const found = await this.#pictures.get(item, { label, model: this.#model }, signal);
      if (signal.aborted) return;
      this.#display(found);
      const next = this.#following();
      if (next) this.#pictures.prefetch(next, { label, model: this.#model });
    } catch (error) {
      if (!signal.aborted) this.#say(`No picture: ${error.message}`);
    }
  }

  #display(found, sharper = false) {
    this.#found = found;
    clearTimeout(this.#sharper);
    this.#stage.show(found?.pixels ?? null, found?.heat ?? null, sharper);
    const why = this.#model?.explanation?.why;
    byId("legend").classList.toggle("empty", !found);
    byId("legend").classList.toggle("bare", !found?.heat);
    if (!found) return;
    this.#say("");
    const { heat, label, cut } = found;
    byId("heat-note").textContent = !heat
      ? `This model can not say where it looked${why ? `: ${why}` : ""}.`
      : heat.highest
        ? `Warm: evidence for ${label}, at ${cut} of the network. It does not outline disease.`
        : `Nothing in this picture speaks for ${label}.`;
    byId("plain").setAttribute("aria-label", `The picture ${this.#item.name}`);
    byId("laid").setAttribute("aria-label", heat ? `The picture ${this.#item.name} with heat for ${label}` : `The picture ${this.#item.name}`);
  }

  #say(text) {
    byId("stage-text").textContent = text;
    byId("stage-text").hidden = !text;
  }

  /** After each drawing: the zoom in words, and a sharper picture where one helps. */
  #drawn() {
    const { zoom, magnification } = this.#stage;
    byId("zoom").textContent = `${+zoom.toFixed(1)}×`;
    byId("stage").classList.toggle("free", zoom > 1 || this.#toning);
    clearTimeout(this.#sharper);
    const found = this.#found;
    const shrunk = found && found.size < SHARP && Math.max(found.pixels.width, found.pixels.height) >= SIZE;
    if (!shrunk || zoom === 1 || magnification < 1.2) return;
    this.#sharper = setTimeout(async () => {
      try {
        const { signal } = this.#asked;
        const sharp = await this.#pictures.get(this.#item, { label: byId("label").value, size: SHARP, model: this.#model }, signal);
        if (this.#found === found && !signal.aborted) this.#display(sharp, true);
      } catch {
        // the picture stays as it is
      }
    }, 300);
  }

  #wire() {
    const on = (id, event, act) => byId(id).addEventListener(event, act);
    on("previous", "click", () => this.#step(-1));
    on("next", "click", () => this.#step(1));
    on("overlay", "click", () => this.#heat(!this.#shown));
    on("opacity", "input", ({ target }) => this.#opacity(+target.value));
    on("beside", "click", () => this.#sideBySide(!this.#beside));
    on("label", "change", () => this.#load());
    on("invert", "click", () => this.#window({ invert: !this.#stage.tone.invert }));
    on("level", "input", ({ target }) => this.#window({ level: +target.value }));
    on("width", "input", ({ target }) => this.#window({ width: +target.value }));
    on("zoom-in", "click", () => this.#stage.zoomBy(STEP));
    on("zoom-out", "click", () => this.#stage.zoomBy(1 / STEP));
    on("dragging", "click", () => this.#dragging(!this.#toning));
    on("reset", "click", () => this.#reset());
    on("workbench", "keydown", (event) => this.#key(event));
  }

  #heat(shown) {
    this.#shown = shown;
    byId("overlay").setAttribute("aria-pressed", shown);
    this.#stage.opacity = shown ? byId("opacity").value / 100 : 0;
    this.#stage.draw();
  }

  #opacity(percent) {
    byId("opacity").value = percent;
    byId("opacity-value").textContent = `${byId("opacity").value}%`;
    this.#heat(true);
  }

  #sideBySide(beside) {
    this.#beside = beside;
    byId("beside").setAttribute("aria-pressed", beside);
    byId("plain").hidden = !beside;
    byId("stage").classList.toggle("two", beside);
    this.#stage.draw();
  }

  #window(tone) {
    const within = (value, low, high) => Math.round(Math.min(high, Math.max(low, value)));
    if ("level" in tone) tone.level = within(tone.level, 0, 100);
    if ("width" in tone) tone.width = within(tone.width, 2, 200);
    this.#stage.window = tone;
    const { level, width, invert } = this.#stage.tone;
    for (const [id, value] of [["level", level], ["width", width]]) {
      byId(id).value = value;
      byId(`${id}-value`).textContent = `${value}%`;
    }
    byId("invert").setAttribute("aria-pressed", invert);
  }

  #dragging(toning) {
    this.#toning = toning;
    byId("dragging").setAttribute("aria-pressed", toning);
    byId("stage").classList.toggle("toning", toning);
    this.#stage.draw();
  }

  #reset() {
    this.#window({ ...PLAIN });
    this.#opacity(70);
    this.#stage.whole();
  }

  /** Keys work while the focus is on the workbench, so they are in no one's way elsewhere. */
  #key(event) {
    const { target, key } = event;
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (target.matches("select, input:not([type=range])")) return;
    const onStage = target.id === "stage";
    const arrows = { ArrowLeft: [60, 0], ArrowRight: [-60, 0], ArrowUp: [0, 60], ArrowDown: [0, -60] };
    const acts = {
      "+": () => this.#stage.zoomBy(STEP),
      "=": () => this.#stage.zoomBy(STEP),
      "-": () => this.#stage.zoomBy(1 / STEP),
      0: () => this.#stage.whole(),
      o: () => this.#heat(!this.#shown),
      "[": () => this.#opacity(+byId("opacity").value - 10),
      "]": () => this.#opacity(+byId("opacity").value + 10),
      s: () => this.#sideBySide(!this.#beside),
      i: () => this.#window({ invert: !this.#stage.tone.invert }),
      w: () => this.#dragging(!this.#toning),
      r: () => this.#reset(),
      l: () => this.#nextLabel(),
    };
    if (byId("heat-controls").hidden) for (const name of "o[]sl") delete acts[name];
    if (onStage && this.#stage.zoom > 1 && key in arrows) acts[key] = () => this.#stage.pan(...arrows[key]);
    if (target.closest("#viewer") && !target.matches("input")) {
      Object.assign(acts, { PageUp: () => this.#step(-1), PageDown: () => this.#step(1), Escape: () => this.#back() });
    }
    const act = acts[key.length === 1 ? key.toLowerCase() : key];
    if (!act) return;
    event.preventDefault();
    act();
  }

  #nextLabel() {
    const choice = byId("label");
    choice.selectedIndex = (choice.selectedIndex + 1) % choice.options.length;
    this.#load();
  }
}
