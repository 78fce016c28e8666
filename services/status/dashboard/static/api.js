// Asking the services. A refusal is thrown as an Error with the words of its problem document.

import { setClock } from "./format.js";

const ACCEPTED = 202;

export class Refusal extends Error {
  // Status 0: there was no answer.
  constructor(words, status) {
    super(words);
    this.status = status;
    this.mayMend = status === 0 || status === 429 || status >= 500;
  }
}

export function getJson(path, params = {}) {
  const query = new URLSearchParams(Object.entries(params).filter(([, value]) => value));
  return askJson(query.size ? `${path}?${query}` : path);
}

export const postJson = (path) => askJson(path, { method: "POST" });

async function askJson(path, options) {
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    throw new Refusal("The service does not answer.", 0);
  }
  setClock(response.headers.get("Date"));
  if (!response.ok) throw refusalOf(await response.text(), response.status);
  return response.json();
}

function refusalOf(text, status) {
  try {
    const problem = JSON.parse(text);
    return new Refusal(problem.detail || problem.title, status);
  } catch {
    return new Refusal(`The service answered ${status}.`, status);
  }
}

// The services may stand under one origin; then the configured address is empty.
export const uploadAddress = (url) => new URL(`${url}/api/files/upload`, location.origin).href;

// Upload progress is what fetch cannot tell, so this one is an XMLHttpRequest.
export function upload(url, file, onProgress) {
  const request = new XMLHttpRequest();
  const answer = new Promise((resolve, reject) => {
    request.open("POST", uploadAddress(url));
    request.upload.onprogress = (event) => onProgress(event.loaded, event.total);
    request.onload = () =>
      request.status === ACCEPTED
        ? resolve(JSON.parse(request.responseText))
        : reject(refusalOf(request.responseText, request.status));
    request.onerror = () =>
      reject(new Refusal("The upload service does not answer, or broke off.", 0));
    request.onabort = () => reject(new Refusal("Cancelled.", 0));
    const form = new FormData();
    form.append("file", file, file.name);
    request.send(form);
  });
  return { answer, cancel: () => request.abort() };
}
