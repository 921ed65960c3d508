// What was dropped, pasted or chosen, as a list of {name, file}; folders are walked to the bottom.
import { byId } from "./elements.js";

const CLUTTER = new Set(["thumbs.db", "desktop.ini", "__macosx"]); // as `layerwise predict` leaves out
const UNREADABLE = { status: 0, title: "Not readable", detail: "The browser can not read this file. Check who may read it, then add it again." };

const visible = (path) => path.split("/").every((part) => !part.startsWith(".") && !CLUTTER.has(part.toLowerCase()));
const ordered = (found) => found.sort((a, b) => (a.name < b.name ? -1 : Number(a.name > b.name)));

/** Adds all files below a folder to `found`; the browser lists at most 100 at a time. */
async function walk(folder, found, seen) {
  const reader = folder.createReader();
  for (;;) {
    const some = await new Promise((done, failed) => reader.readEntries(done, failed));
    if (!some.length) return;
    const entries = some.filter(({ name }) => visible(name));
    for (const each of await Promise.all(entries.filter(({ isFile }) => isFile).map(opened))) found.push(each);
    seen(found.length);
    for (const entry of entries) if (entry.isDirectory) await walk(entry, found, seen);
  }
}

async function opened(entry) {
  const name = entry.fullPath.replace(/^\//, "");
  try {
    return { name, file: await new Promise((done, failed) => entry.file(done, failed)) };
  } catch {
    return { name, file: null, error: UNREADABLE };
  }
}

async function fromDrop(transfer, seen) {
  // All at once: after the first pause the browser has emptied the list.
  const items = [...transfer.items]
    .filter(({ kind }) => kind === "file")
    .map((item) => ({ entry: item.webkitGetAsEntry?.(), file: item.getAsFile() }));
  let found = [];
  for (const { entry, file } of items) {
    if (entry?.isDirectory) {
      const inside = [];
      await walk(entry, inside, (n) => seen(found.length + n));
      found = found.concat(ordered(inside));
    } else if (file) found.push({ name: file.name, file });
  }
  return found;
}

const fromInput = (input) =>
  ordered([...input.files].map((file) => ({ name: file.webkitRelativePath || file.name, file })).filter(({ name }) => visible(name)));

/** Calls `add(found)` whenever files arrive, `seen(n)` while a folder is gone through. */
export function startIntake(add, seen) {
  for (const [button, input] of [["choose-files", "files"], ["choose-folder", "folder"]]) {
    byId(button).addEventListener("click", () => byId(input).click());
    byId(input).addEventListener("change", ({ target }) => {
      add(fromInput(target));
      target.value = ""; // so that the same file can be chosen again
    });
  }
  byId("choose-folder").hidden = !("webkitdirectory" in byId("folder"));

  const body = document.body;
  let depth = 0; // every element that is entered counts, and so does every one that is left
  const over = (change) => body.classList.toggle("dropping", (depth = Math.max(0, depth + change)) > 0);
  const carriesFiles = ({ dataTransfer }) => dataTransfer?.types.includes("Files");
  document.addEventListener("dragenter", (event) => carriesFiles(event) && over(1));
  document.addEventListener("dragleave", (event) => carriesFiles(event) && over(-1));
  document.addEventListener("dragover", (event) => carriesFiles(event) && event.preventDefault());
  document.addEventListener("drop", async (event) => {
    if (!carriesFiles(event)) return;
    event.preventDefault();
    over(-depth);
    add(await fromDrop(event.dataTransfer, seen));
  });

  let pasted = 0;
  document.addEventListener("paste", ({ clipboardData }) => {
    const files = [...(clipboardData?.files ?? [])];
    // A copied picture has no name of its own, only the browser's.
    if (files.length) add(files.map((file) => ({ name: file.name === "image.png" ? `pasted-${(pasted += 1)}.png` : file.name, file })));
  });
}
