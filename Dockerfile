# For schools without internet: JupyterLab, the notebooks and the built book in one image that needs no network.
#   docker build -t induction-heads .
#   docker run --rm --network none induction-heads jupyter execute chapters/00_start_here.ipynb      # proves it
#   docker run --rm -p 127.0.0.1:8888:8888 induction-heads                        # JupyterLab; the book is in book/
# On Linux pip takes PyTorch with CUDA, several GB. For the CPU build, name the index that PyTorch's install page gives:
#   docker build --build-arg PIP_EXTRA_INDEX_URL=ADDRESS -t induction-heads .
FROM python:3.11-slim AS build
ARG PIP_EXTRA_INDEX_URL
RUN apt-get update && apt-get install -y --no-install-recommends make && rm -rf /var/lib/apt/lists/*
WORKDIR /course
COPY . .
RUN make book
RUN make wheels

FROM python:3.11-slim
RUN --mount=type=bind,from=build,source=/course/_offline/wheels,target=/wheels \
    python -m pip install --no-cache-dir --no-index --find-links /wheels "induction-heads-course[lab]"
RUN useradd --create-home learner
WORKDIR /home/learner/course
COPY --from=build --chown=learner /course/_offline/wheels wheels
COPY --from=build --chown=learner /course/_build/html book
COPY --from=build --chown=learner /course/chapters chapters
COPY --from=build --chown=learner /course/exercises exercises
COPY --from=build --chown=learner /course/solutions solutions
RUN chown learner /home/learner/course
USER learner
ENV COURSE_RUNS=/home/learner/course/runs
EXPOSE 8888
CMD ["jupyter", "lab", "--ip=0.0.0.0", "--no-browser", \
     "--ServerApp.root_dir=.", "--LabApp.default_url=/lab/tree/chapters/00_start_here.ipynb"]
