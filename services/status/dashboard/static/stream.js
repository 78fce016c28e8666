// One stream for the whole page.

import { client } from "./api.js";

const REST_AFTER = 5000;
const REFUSED_DELAY = 10000;

// Calls `onState` with how the connection is, `onFile` with every state that comes, and `onWithdrawn`
// with the id of a file that others share no longer.
export function follow({ onFile, onState, onWithdrawn }) {
  const states = client.watch({}, { onConnection: onState, onWithdrawn });
  let resting;
  let again;
  let open = false;

  async function run() {
    clearTimeout(again);
    open = true;
    try {
      for await (const file of states) onFile(file);
    } catch {
      // It was refused for good; but a page that is open for days outlives what was wrong.
      onState("lost");
      again = setTimeout(run, REFUSED_DELAY);
    }
  }

  // A browser opens six connections to one host (HTTP/1.1). A page in the background gives its own
  // back, or the seventh tab would get no answer at all.
  function rest() {
    clearTimeout(resting);
    if (document.hidden) {
      resting = setTimeout(() => {
        open = false;
        states.close();
      }, REST_AFTER);
    } else if (!open) {
      run();
    }
  }

  document.addEventListener("visibilitychange", rest);
  addEventListener("online", () => open && run());
  run();
  rest();
}
