// Sign-in, if the services require tokens.
//
// The token is exchanged for an HttpOnly cookie, which no script can read.

import { beginSession, endSession, getJson } from "./api.js";
import { button, element, write } from "./elements.js";

const UNAUTHORIZED = 401;

// Resolves once the user is signed in.
export async function signIn() {
  try {
    showUser(await getJson("/api/session"));
  } catch (error) {
    if (error.status !== UNAUTHORIZED) throw error;
    showUser(await askForToken());
  }
}

function showUser(session) {
  const leave = button("Sign out", async () => {
    await endSession();
    location.reload();
  });
  const name = element("bdi", {}, session.subject);
  document.querySelector("footer").append(element("span", { id: "who" }, " · ", name, " "), leave);
}

function askForToken() {
  const field = element("input", {
    type: "password",
    autocomplete: "off",
    required: "",
    "aria-label": "Token or API key",
    placeholder: "Token or API key",
  });
  const problem = element("p", { class: "reason", role: "alert" });
  const form = element(
    "form",
    { id: "login", class: "card" },
    element("h1", {}, "Sign in"),
    field,
    element("button", { class: "button primary", type: "submit" }, "Sign in"),
    problem,
  );
  const main = document.querySelector("main");
  const upload = document.querySelector("label[for=picker]");
  main.hidden = upload.hidden = true;
  main.before(form);
  field.focus();
  return new Promise((resolve) => {
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      try {
        const session = await beginSession(field.value.trim());
        form.remove();
        main.hidden = upload.hidden = false;
        resolve(session);
      } catch (error) {
        write(problem, error.message);
      }
    });
  });
}
