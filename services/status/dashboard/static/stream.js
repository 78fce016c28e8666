// One event stream for the whole page.

import { client } from "./api.js";

const HIDDEN_TIMEOUT = 5000;
const ERROR_DELAY = 10000;

// Calls `onState` with the state of the connection, `onFile` with every received file state, and
// `onWithdrawn` with the id of each file that is no longer shared with the reader.
export function follow({ onFile, onState, onWithdrawn }) {
  const states = client.watch({}, { onConnection: onState, onWithdrawn });
  let hiddenTimer;
  let retryTimer;
  let open = false;

  async function run() {
    clearTimeout(retryTimer);
    open = true;
    try {
      for await (const file of states) onFile(file);
    } catch {
      // A permanent error. Retry all the same: the page may stay open until it is fixed.
      onState("lost");
      retryTimer = setTimeout(run, ERROR_DELAY);
    }
  }

  // A browser opens at most six connections to one host (HTTP/1.1). A background page closes its
  // stream; otherwise the seventh tab would get no response.
  function pauseWhenHidden() {
    clearTimeout(hiddenTimer);
    if (document.hidden) {
      hiddenTimer = setTimeout(() => {
        open = false;
        states.close();
      }, HIDDEN_TIMEOUT);
    } else if (!open) {
      run();
    }
  }

  document.addEventListener("visibilitychange", pauseWhenHidden);
  addEventListener("online", () => open && run());
  run();
  pauseWhenHidden();
}
