"""Steps: one sentence each about what must be so, checked in order and printed as they happen."""

import sys
import time
import traceback


class StepFailure(Exception):
	"""What a step found instead; the text is one sentence."""


def check(condition, otherwise):
	if not condition:
		raise StepFailure(otherwise)


class Chapter:
	"""Steps that build on each other: after one has failed, the rest are skipped, and so are the
	chapters that need this one."""

	def __init__(self, title, needs=(), in_quick_runs=True):
		self.title = title
		self.needs = needs
		self.in_quick_runs = in_quick_runs
		self.steps = []
		self.whole = False

	def step(self, sentence, others_go_on=False):
		"""Registers a function of one argument, the scene. What it returns, if anything, is a
		detail worth printing. `others_go_on`: nothing later depends on this step."""
		def register(function):
			self.steps.append((sentence, function, others_go_on))
			return function
		return register


class Report:
	"""Runs chapters, prints what happens with the time since the start, and counts."""

	def __init__(self, expected_failures):
		"""`expected_failures`: the exceptions that explain themselves in one sentence; any other
		is a mistake in the tests and is printed with where it happened."""
		self.expected_failures = (StepFailure, *expected_failures)
		self.started = time.monotonic()
		self.passed = self.failed = self.skipped = 0

	def say(self, text):
		over_waiting_line = "\r\x1b[K" if sys.stdout.isatty() else ""
		print(f"{over_waiting_line}[{time.monotonic() - self.started:6.1f} s] {text}", flush=True)

	def show(self, lines):
		for line in lines:
			print(f"             | {line}", flush=True)

	def run(self, chapters, scene, quick=False):
		for chapter in chapters:
			self.say(chapter.title)
			if quick and not chapter.in_quick_runs:
				self.skip(chapter.steps, "left out of quick runs")
			elif not all(needed.whole for needed in chapter.needs):
				self.skip(chapter.steps, "needs what failed before")
			else:
				self.run_chapter(chapter, scene)

	def run_chapter(self, chapter, scene):
		chapter.whole = True
		for number, (sentence, function, others_go_on) in enumerate(chapter.steps):
			if self.run_step(sentence, function, scene) or others_go_on:
				continue
			chapter.whole = False
			self.skip(chapter.steps[number + 1:], "needs what failed before")
			return

	def run_step(self, sentence, function, scene):
		if sys.stdout.isatty():
			print(f"             ... {sentence}", end="\r", flush=True)
		try:
			detail = function(scene)
		except Exception as failure:
			self.failed += 1
			self.say(f"FAILED   {sentence}: {failure}")
			if not isinstance(failure, self.expected_failures):
				self.show(traceback.format_exc().splitlines())
			self.show(scene.evidence())
			return False
		self.passed += 1
		self.say(f"passed   {sentence}" + (f" ({detail})" if detail else ""))
		return True

	def skip(self, steps, reason):
		for sentence, _, _ in steps:
			self.skipped += 1
			self.say(f"skipped  {sentence}: {reason}")

	def close(self):
		print(f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped", flush=True)
