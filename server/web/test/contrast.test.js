import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

// WCAG 2.2, 1.4.3: text needs 4.5 to 1 against what lies behind it; 1.4.11: the
// outlines of controls and bars need 3 to 1.
const css = readFileSync(new URL("../css/base.css", import.meta.url), "utf8");
const colours = Object.fromEntries([...css.matchAll(/--([\w-]+): light-dark\((#\w{6}), (#\w{6})\)/g)].map((m) => [m[1], [m[2], m[3]]]));

const channel = (v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
const luminance = (c) => [1, 3, 5].reduce((sum, at, i) => sum + channel(parseInt(c.slice(at, at + 2), 16) / 255) * [0.2126, 0.7152, 0.0722][i], 0);
const ratio = (a, b) => {
  const [x, y] = [luminance(a), luminance(b)].sort((p, q) => q - p);
  return (x + 0.05) / (y + 0.05);
};

const text = ["text", "quiet", "accent", "ok", "error", "denied", "running", "k-run", "k-model", "k-tool", "k-data", "k-gate"];
const behind = ["bg", "panel", "raised", "select"];

for (const [i, theme] of ["light", "dark"].entries()) {
  test(`contrast, ${theme}`, () => {
    for (const t of text) for (const b of behind) assert.ok(ratio(colours[t][i], colours[b][i]) >= 4.5, `${t} on ${b}: ${ratio(colours[t][i], colours[b][i]).toFixed(2)}`);
    for (const [t, b] of [["text", "error-bg"], ["text", "denied-bg"], ["error", "error-bg"], ["denied", "denied-bg"], ["quiet", "error-bg"], ["quiet", "denied-bg"]]) assert.ok(ratio(colours[t][i], colours[b][i]) >= 4.5, `${t} on ${b}: ${ratio(colours[t][i], colours[b][i]).toFixed(2)}`);
    for (const b of ["bg", "panel"]) assert.ok(ratio(colours["line-strong"][i], colours[b][i]) >= 3, `line-strong on ${b}: ${ratio(colours["line-strong"][i], colours[b][i]).toFixed(2)}`);
  });
}
