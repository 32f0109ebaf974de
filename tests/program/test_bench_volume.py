"""byok bench volume, and the reports: devices side by side, and a page that draws what was measured."""

import json
import re

from harness import expect, expect_equal, test

# Enough of a browser for the page's script: it reads two elements, and adds HTML to the body.
BROWSER = """
const fs = require("fs"), html = fs.readFileSync(process.argv[2], "utf8");
const read = s => s.replace(/&#(\\d+);/g, (_, n) => String.fromCharCode(n));
const text = id => read(html.match(new RegExp(`<pre hidden id=${id}>([^<]*)</pre>`))[1]);
let drawn = "";
globalThis.document = {
	getElementById: id => ({ textContent: text(id) }),
	body: { insertAdjacentHTML: (_, more) => { drawn += more; } },
};
(0, eval)(html.match(/<script>([^]*?)<\\/script>/)[1]);
onload();
console.log(JSON.stringify({ report: JSON.parse(text("report")), stacks: text("stacks"), drawn }));
"""


def opened(t, page):
	"""What a browser makes of a report: its figures, perf's stacks, and what is drawn of them."""
	html = page.read_text().split("<pre hidden")[0]
	foreign = re.search(r"\b(src|href|url|import|fetch)\b\s*[=(]|https?:", html)
	expect(not foreign, f"it needs something from elsewhere: {foreign}")
	return json.loads(t.must("node", t.file("browser.js", BROWSER), page).stdout)


@test
def devices_are_measured_side_by_side_and_the_others_held_against_the_first(t):
	first, second = t.disk("first"), t.formatted("second")[0]
	text = t.byok("bench", "volume", "--quick", first, second).stdout
	for name in (first, second):
		expect_equal(len(re.findall(rf"^  {name} .*MB/s", text, re.M)), 3, f"rows of {name}")
	expect_equal(text.count(f"  {second} / {first} "), 3, "comparisons")
	report = json.loads(t.byok("bench", "volume", "--quick", "--json", first, second).stdout)
	expect_equal(report["paths"], [str(first), str(second)], "paths")
	for workload in report["workloads"]:
		expect(all(workload[path]["bytes_per_second"] > 0 for path in report["paths"]), f"{workload}")


@test
def nothing_is_written_to_a_device_that_is_not_blank(t):
	blank, volume = t.disk("blank"), t.formatted("volume")[0]
	before = volume.read_bytes()
	t.byok("bench", "volume", "--quick", blank, volume)
	expect_equal(blank.read_bytes().count(0), blank.stat().st_size, "zeros on the blank one")
	t.byok("bench", "volume", "--write", "--quick", blank, volume, expect="disk-not-blank", object=volume)
	expect_equal(volume.read_bytes() == before, True, "whether the volume is as before")
	text = t.byok("bench", "volume", "--write", "--quick", blank).stdout
	expect("sequential 1 MiB write" in text, text)
	t.byok("bench", "disk", "--write", "--quick", blank)  # it is known as one to write to


@test
def what_cannot_be_compared_is_a_usage_error(t):
	disk = t.disk()
	t.byok("bench", "volume", expect="usage")
	t.byok("bench", "volume", disk, disk, expect="usage")
	t.byok("bench", "volume", *(t.disk(f"disk{i}") for i in range(9)), expect="usage")
	t.byok("bench", "volume", "--implementation", "portable", disk, expect="usage")
	t.byok("bench", "crypto", "--report", t.path("page.html"), expect="usage")
	t.byok("bench", "crypto", "--write", expect="usage")


@test
def a_report_draws_every_measurement_and_needs_nothing_else(t):
	page, disk = t.path("page.html"), t.disk("scratch")
	for _ in range(2):  # the second takes the first one's place
		t.byok("bench", "disk", "--write", "--quick", "--report", page, disk)
	shown = opened(t, page)
	expect_equal(len(shown["report"]["workloads"]), 5 + 2 * (5 + 7), "count of workloads")
	drawn = shown["drawn"]
	plots = re.findall(r'<svg viewBox="0 0 332 220".*?</svg>', drawn, re.S)
	expect_equal(len(plots), 2 * 2 * 3, "count of plots")
	for plot in plots:
		lines = re.findall(r'class="line"[^>]* d="M([^"]*)"', plot)
		expect_equal(len(lines), 6 if 'aria-label="Latency"' in plot else 2, "lines of a plot")
		for line in lines:
			expect(re.fullmatch(r"[\d.]+ [\d.]+(L[\d.]+ [\d.]+)*", line), f"a line is drawn along {line}")
	expect_equal(len(re.findall(r'class="card tile"', drawn)), 5, "count of tiles")
	expect_equal(drawn.count("<tr style="), 5 * 2, "rows of the table")
	expect("NaN" not in drawn and "undefined" not in drawn, drawn)
	has_stacks = re.search(r"^\d+ \S", shown["stacks"], re.M)
	expect(("No flame graph" in drawn) != bool(has_stacks), f"of {shown['stacks'][:500]} it draws {drawn[-3000:]}")


@test
def names_in_a_report_stay_text(t):
	name = "<img src=x onerror=alert(1)>&lt;"
	page, disk, other = t.path("page.html"), t.disk(name), t.disk("other")
	t.byok("bench", "volume", "--quick", "--report", page, other, disk)
	expect("<img" not in page.read_text(), "the page has the name as HTML")
	shown = opened(t, page)
	expect_equal(shown["report"]["paths"][1], str(disk), "the name")
	expect("<img" not in shown["drawn"] and "&#60;img" in shown["drawn"], "the script makes HTML of the name")


@test
def a_report_that_cannot_be_written_is_refused_before_anything_is_measured(t):
	page = t.path("nowhere") / "page.html"
	t.byok("bench", "disk", "--write", "--report", page, t.disk(), expect="file", object=page)
