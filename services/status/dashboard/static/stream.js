// One stream for the whole page. It says when it is live, and opens itself again when it breaks.

const DELAYS = [500, 1000, 2000, 5000, 10000];
const STEADY_AFTER = 10000;
const REST_AFTER = 5000;

// Calls `onState` with "connecting", "live" or "lost", and `onFile` with every state that comes.
export function follow({ onFile, onState }) {
  let source = null;
  let failures = 0;
  let resting;

  function open() {
    close();
    let opened = null;
    const stream = new EventSource("/api/stream");
    source = { close: () => stream.close() };
    stream.onopen = () => {
      opened = Date.now();
      onState("live");
    };
    stream.onmessage = (event) => onFile(JSON.parse(event.data));
    const again = () => {
      stream.close();
      if (opened && Date.now() - opened > STEADY_AFTER) failures = 0;
      const longest = DELAYS[Math.min(failures, DELAYS.length - 1)];
      failures += 1;
      onState("lost");
      // Not all at the same moment: many pages may have lost the same pod.
      const waiting = setTimeout(open, longest * (0.5 + Math.random() / 2));
      source = { close: () => clearTimeout(waiting) };
    };
    // EventSource gives up for good on some errors, so each error opens a new one.
    stream.onerror = again;
    stream.addEventListener("bye", again);
  }

  function close() {
    source?.close();
    source = null;
  }

  // A browser opens six connections to one host (HTTP/1.1). A page in the background gives its own
  // back, or the seventh tab would get no answer at all.
  function rest() {
    clearTimeout(resting);
    if (document.hidden) {
      resting = setTimeout(close, REST_AFTER);
    } else if (!source) {
      onState("connecting");
      open();
    }
  }

  document.addEventListener("visibilitychange", rest);
  addEventListener("online", () => source && open());
  open();
  rest();
}
