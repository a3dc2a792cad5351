"""Grading thousands of notebooks that nobody has read: `python -m course_lib grade SUBMISSIONS --out RESULTS`.

A worker process computes values from a learner's code; verdicts are made in the grader's process only.
Nothing is imported here, so that help texts need not wait for torch.
"""
