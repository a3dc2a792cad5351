#!/usr/bin/env bash
# Gradescope runs this once, when it builds the image: a Python of its own with what the course needs.
# The pinned torch may bring CUDA along; PIP_EXTRA_INDEX_URL can name an index with smaller builds.
set -euo pipefail
here="${AUTOGRADER_ROOT:-/autograder}/source"
python=""
for version in 3.13 3.12 3.11; do
  if apt-get install -y "python$version" "python$version-venv"; then
    python="python$version"
    break
  fi
done
if [ -z "$python" ]; then
  echo "This image has no Python 3.11 or later: choose a newer base image." >&2
  exit 1
fi
"$python" -m venv "$here/venv"
"$here/venv/bin/python" -m pip install --no-cache-dir -r "$here/requirements.txt"
chmod -R go+rX "$here"
chmod 700 "$here/course_lib/solutions"
