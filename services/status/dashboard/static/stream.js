// One stream for the whole page. It says when it is live, and opens itself again when it breaks.

const DELAYS = [500, 1000, 2000, 5000];

export function follow({ onFile, onLive, onLost }) {
  let failures = 0;

  function open() {
    const source = new EventSource("/api/stream");
    source.onopen = () => {
      failures = 0;
      onLive();
    };
    source.onmessage = (event) => onFile(JSON.parse(event.data));
    const again = () => {
      source.close();
      onLost();
      setTimeout(open, DELAYS[Math.min(failures, DELAYS.length - 1)]);
      failures += 1;
    };
    // EventSource gives up for good on some errors, so the page opens a new one on each.
    source.onerror = again;
    source.addEventListener("bye", again);
  }

  open();
}
