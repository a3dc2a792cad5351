"""One assignment for this course's grader, for nbgrader and for otter-grader, and a class that handed it in."""
