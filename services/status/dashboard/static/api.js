// Requests to the services, through the public client (waybill.js). An error response is thrown as
// a Refusal with the detail of its problem document.

import { setClock } from "./format.js";
import { Client, Refusal, refusalOf } from "./waybill.js";

// 202: a new file. 200: a file that already exists.
const ACCEPTED = [202, 200];
const UNAUTHORIZED = 401;
const SESSION = "/api/session";

export const client = new Client({ onAnswer });

function onAnswer({ headers, status, url }) {
  setClock(headers.get("Date"));
  // The session has ended: reload the page, which asks for a token.
  if (status === UNAUTHORIZED && !url.endsWith(SESSION)) location.reload();
}

export const getJson = (path, params) => client.ask("GET", path, params);

export const beginSession = (token) => new Client({ token }).ask("POST", SESSION);

export const endSession = () => fetch(SESSION, { method: "DELETE" });

// The configured address is empty if both services share one origin.
export const uploadAddress = (url) => new URL(`${url}/api/files/upload`, location.origin).href;

// An XMLHttpRequest, because fetch does not report upload progress.
// Send credentials only if sessions are enabled: with credentials, CORS cannot allow every origin.
export function upload(url, file, { withSession, onProgress }) {
  const request = new XMLHttpRequest();
  const answer = new Promise((resolve, reject) => {
    request.open("POST", uploadAddress(url));
    request.withCredentials = withSession;
    request.upload.onprogress = (event) => onProgress(event.loaded, event.total);
    request.onload = () =>
      ACCEPTED.includes(request.status)
        ? resolve(JSON.parse(request.responseText))
        : reject(refusalOf(request.responseText, request.status));
    request.onerror = () =>
      reject(new Refusal("The upload service is unreachable, or the connection was lost."));
    request.onabort = () => reject(new Refusal("Cancelled."));
    const form = new FormData();
    form.append("file", file, file.name);
    request.send(form);
  });
  return { answer, cancel: () => request.abort() };
}
