// Asking the services, by the client that is there for everybody. A refusal is thrown with the words
// of its problem document.

import { setClock } from "./format.js";
import { Client, Refusal, refusalOf } from "./waybill.js";

// As a new file, or as one that is there already.
const TAKEN = [202, 200];
const UNKNOWN = 401;
const SESSION = "/api/session";

export const client = new Client({ onAnswer });

function onAnswer({ headers, status, url }) {
  setClock(headers.get("Date"));
  // The session has ended: the page begins anew, and asks for a token.
  if (status === UNKNOWN && !url.endsWith(SESSION)) location.reload();
}

export const getJson = (path, params) => client.ask("GET", path, params);

export const beginSession = (token) => new Client({ token }).ask("POST", SESSION);

export const endSession = () => fetch(SESSION, { method: "DELETE" });

// The services may stand under one origin; then the configured address is empty.
export const uploadAddress = (url) => new URL(`${url}/api/files/upload`, location.origin).href;

// Upload progress is what fetch cannot tell, so this one is an XMLHttpRequest.
// Only where there are sessions, or no page but ours could be allowed to upload.
export function upload(url, file, { withSession, onProgress }) {
  const request = new XMLHttpRequest();
  const answer = new Promise((resolve, reject) => {
    request.open("POST", uploadAddress(url));
    request.withCredentials = withSession;
    request.upload.onprogress = (event) => onProgress(event.loaded, event.total);
    request.onload = () =>
      TAKEN.includes(request.status)
        ? resolve(JSON.parse(request.responseText))
        : reject(refusalOf(request.responseText, request.status));
    request.onerror = () =>
      reject(new Refusal("The upload service does not answer, or broke off."));
    request.onabort = () => reject(new Refusal("Cancelled."));
    const form = new FormData();
    form.append("file", file, file.name);
    request.send(form);
  });
  return { answer, cancel: () => request.abort() };
}
