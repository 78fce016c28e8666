// The content of the empty list: what to do next.

import { uploadAddress } from "./api.js";
import { button, element } from "./elements.js";
import * as filters from "./filters.js";
import * as uploads from "./uploads.js";

const DEMO = { seconds: 8, steps: 40, then: "complete" };
const DEMO_TYPE = "application/vnd.waybill.demo+json";

export function emptyState(config) {
  const { status, name } = filters.query();
  if (status || name) {
    return [element("h2", {}, "Nothing matches"), element("p", {}, "No files match the filter.")];
  }
  const parts = [
    element("h2", {}, "No files yet"),
    element("p", {}, "Drop a file anywhere on this page, or upload one from a terminal:"),
    element("code", {}, `curl -F file=@report.pdf ${uploadAddress(config.upload_url)}`),
  ];
  if (config.demo) parts.push(element("p", {}, button("Send a demo file", sendDemo)));
  return parts;
}

const sendDemo = () =>
  uploads.add([new File([JSON.stringify(DEMO)], "demo.json", { type: DEMO_TYPE })]);
