// Asking the services. A refusal is thrown as an Error with the words of its problem document.

export class Refusal extends Error {
  constructor(code, detail) {
    super(detail);
    this.code = code;
  }
}

export async function getJson(path, params = {}) {
  const query = new URLSearchParams(Object.entries(params).filter(([, value]) => value));
  const response = await fetch(query.size ? `${path}?${query}` : path);
  if (response.ok) return response.json();
  throw refusalOf(await response.text(), response.status);
}

export function refusalOf(text, status) {
  try {
    const problem = JSON.parse(text);
    return new Refusal(problem.code, problem.detail || problem.title);
  } catch {
    return new Refusal(`http_${status}`, `The service answered ${status}.`);
  }
}

// Upload progress is what fetch cannot tell, so this one is an XMLHttpRequest.
export function upload(url, file, onProgress) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", `${url}/api/files/upload`);
    request.upload.onprogress = (event) => onProgress(event.loaded, event.total);
    request.onload = () =>
      request.status === 202
        ? resolve(JSON.parse(request.responseText))
        : reject(refusalOf(request.responseText, request.status));
    request.onerror = () =>
      reject(new Refusal("no_answer", "The upload service does not answer, or broke off."));
    const form = new FormData();
    form.append("file", file, file.name);
    request.send(form);
  });
}
