// Making and finding elements. Text is always text: nothing here reads HTML.

export const byId = (id) => document.getElementById(id);

/** An element with properties (or attributes) and children; null children are left out. */
export function element(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in node) node[name] = value;
    else node.setAttribute(name, value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return node;
}

/** A bar from 0 to 1, with a mark where the threshold is; words beside it must say the same. */
export function bar(share, threshold = null) {
  const fill = element("i");
  fill.style.width = `${100 * Math.min(1, Math.max(0, share))}%`;
  const node = element("span", { className: "bar", "aria-hidden": "true" }, fill);
  if (threshold !== null) {
    const mark = element("b");
    mark.style.left = `${100 * Math.min(1, Math.max(0, threshold))}%`;
    node.append(mark);
  }
  return node;
}
