// What was dropped, pasted or chosen, as a list of {name, file}; folders are walked to the bottom.
import { byId } from "./elements.js";

const CLUTTER = new Set(["thumbs.db", "desktop.ini", "__macosx"]); // as `layerwise predict` leaves out
const UNREADABLE = { status: 0, title: "Not readable", detail: "The browser can not read this file. Check who may read it, then add it again." };

const visible = (path) => path.split("/").every((part) => !part.startsWith(".") && !CLUTTER.has(part.toLowerCase()));
const ordered = (found) => found.sort((a, b) => (a.name < b.name ? -1 : Number(a.name > b.name)));

/** All files below a folder; the browser lists at most 100 at a time. */
async function walk(folder) {
  const reader = folder.createReader();
  const found = [];
  for (;;) {
    const some = await new Promise((done, failed) => reader.readEntries(done, failed));
    if (!some.length) return found;
    for (const entry of some.filter(({ name }) => visible(name))) {
      if (entry.isDirectory) found.push(...(await walk(entry)));
      else found.push(await opened(entry));
    }
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

async function fromDrop(transfer) {
  // All at once: after the first pause the browser has emptied the list.
  const items = [...transfer.items]
    .filter(({ kind }) => kind === "file")
    .map((item) => ({ entry: item.webkitGetAsEntry?.(), file: item.getAsFile() }));
  const found = [];
  for (const { entry, file } of items) {
    if (entry?.isDirectory) found.push(...ordered(await walk(entry)));
    else if (file) found.push({ name: file.name, file });
  }
  return found;
}

const fromInput = (input) =>
  ordered([...input.files].map((file) => ({ name: file.webkitRelativePath || file.name, file })).filter(({ name }) => visible(name)));

/** Calls `add(found)` whenever files arrive, `seen()` once they are being gathered. */
export function startIntake(add) {
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
    add(await fromDrop(event.dataTransfer));
  });

  let pasted = 0;
  document.addEventListener("paste", ({ clipboardData }) => {
    const files = [...(clipboardData?.files ?? [])];
    // A copied picture has no name of its own, only the browser's.
    add(files.map((file) => ({ name: file.name === "image.png" ? `pasted-${(pasted += 1)}.png` : file.name, file })));
  });
}
