"""Charts to ask questions of: several linked views of one measurement, with controls that work without a kernel.

As in `plots`: data in, chart out. `widgets.explore` shows any of them with the controls of a live notebook instead.
"""

from course_lib.explorers.ablation import ablation_explorer
from course_lib.explorers.composition import composition_explorer
from course_lib.explorers.losses import loss_explorer
from course_lib.explorers.mosaic import mosaic_explorer
from course_lib.explorers.trajectories import trajectory_explorer

__all__ = [
    "ablation_explorer",
    "composition_explorer",
    "loss_explorer",
    "mosaic_explorer",
    "trajectory_explorer",
]
