// The server's key: asked for when it is wanted, kept in this tab's session only.
import { byId } from "./elements.js";

const NAME = "layerwise-key";
let kept = ""; // where the browser allows no storage
let asking = null;

export function currentKey() {
  try {
    return sessionStorage.getItem(NAME) ?? kept;
  } catch {
    return kept;
  }
}

function keep(key) {
  kept = key;
  try {
    sessionStorage.setItem(NAME, key);
  } catch {
    // kept for this page only
  }
}

/** Asks once however many requests want it; true when a key was given. */
export function askForKey(refused) {
  asking ??= open(refused).finally(() => {
    asking = null;
  });
  return asking;
}

function open(refused) {
  const [dialog, form, input, wrong] = ["key", "key-form", "key-input", "key-wrong"].map(byId);
  input.value = "";
  wrong.textContent = refused ? "The server does not accept this key. Check it and type it again." : "";
  return new Promise((resolve) => {
    let given = false;
    const submit = (event) => {
      event.preventDefault(); // nothing is sent from here
      const key = input.value.trim();
      given = /^[\x21-\x7e]+$/.test(key);
      if (given) {
        keep(key);
        dialog.close();
      } else {
        wrong.textContent = "A key has only plain letters, digits and signs, and no spaces."; // of which headers are made
      }
    };
    const cancel = () => dialog.close();
    form.addEventListener("submit", submit);
    byId("key-cancel").addEventListener("click", cancel);
    dialog.addEventListener(
      "close", // also by Escape
      () => {
        form.removeEventListener("submit", submit);
        byId("key-cancel").removeEventListener("click", cancel);
        input.value = "";
        resolve(given);
      },
      { once: true },
    );
    dialog.showModal();
    input.focus();
  });
}
