// Wheel, mouse, finger and two fingers on the picture.

/**
 * Calls `zoom(factor, at, canvas)`, `pan(dx, dy)`, `tone(dx, dy)` and `toggle(at, canvas)` (a double
 * click). `state()` says {zoomed, toning}: whether there is more picture than shown, and whether
 * dragging sets the window. What is not used is left to the page, so that it still scrolls.
 */
export function watchGestures(stage, { zoom, pan, tone, toggle, state }) {
  const down = new Map(); // the pointers that are down, by id
  let toning = false;
  const canvasAt = ({ clientX, clientY }) => { // a captured pointer's target is the stage
    const under = document.elementFromPoint(clientX, clientY);
    return under?.tagName === "CANVAS" ? under : undefined;
  };
  const spread = ([a, b]) => Math.hypot(a.x - b.x, a.y - b.y);
  const middle = ([a, b]) => ({ x: (a.x + b.x) / 2, y: (a.y + b.y) / 2 });

  stage.addEventListener(
    "wheel",
    (event) => {
      const pixels = event.deltaY * (event.deltaMode === 1 ? 16 : 1); // lines, or pixels
      if (pixels > 0 && !state().zoomed && !event.ctrlKey) return; // nothing to zoom out of
      event.preventDefault();
      zoom(Math.exp(-pixels * (event.ctrlKey ? 0.01 : 0.002)), { x: event.clientX, y: event.clientY }, canvasAt(event));
    },
    { passive: false },
  );

  stage.addEventListener("pointerdown", (event) => {
    if (event.button === 1) return;
    if (!down.size) toning = event.shiftKey || event.button === 2 || state().toning;
    down.set(event.pointerId, { x: event.clientX, y: event.clientY });
    stage.setPointerCapture(event.pointerId);
  });

  stage.addEventListener("pointermove", (event) => {
    const before = down.get(event.pointerId);
    if (!before) return;
    const after = { x: event.clientX, y: event.clientY };
    const was = [...down.values()];
    down.set(event.pointerId, after);
    if (down.size === 2) {
      const now = [...down.values()];
      const [from, to] = [middle(was), middle(now)];
      zoom(spread(now) / Math.max(1, spread(was)), to, canvasAt(event));
      pan(to.x - from.x, to.y - from.y);
    } else if (down.size === 1) {
      (toning ? tone : pan)(after.x - before.x, after.y - before.y);
    }
  });

  for (const end of ["pointerup", "pointercancel"]) {
    stage.addEventListener(end, ({ pointerId }) => down.delete(pointerId));
  }
  stage.addEventListener("contextmenu", (event) => event.preventDefault()); // the right button sets the window
  stage.addEventListener("dblclick", (event) => toggle({ x: event.clientX, y: event.clientY }, canvasAt(event)));
}
