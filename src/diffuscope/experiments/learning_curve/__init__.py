"""The experiment on the learning curve: a network comes near the Gaussian score first, and then leaves it."""

from ..experiment import Experiment, Part
from . import checkpoints, digits, known
from .residuals import PAPER

LEARNING_CURVE = Experiment(
    name="learning-curve",
    title="Linear first: networks pass by the Gaussian score",
    question="Does a network come near the Gaussian score and then leave it, and when?",
    source=PAPER,
    seconds=55,
    parts=(
        Part("known", "Is a turning point found where there is one, and only there?", known.known),
        Part("digits", "Does a network on digits learn the linear part first?", digits.digits),
        Part("mnist", "Does a published network on MNIST?", checkpoints.checkpoints),
    ),
    settings={
        "noise": "in deviations of the data: "
        f"{', '.join(map('{:g}'.format, digits.RATIOS))} (digits), "
        f"{', '.join(map('{:g}'.format, checkpoints.RATIOS))} (MNIST)",
        "digits": f"scikit-learn's, 899 to train and {digits.POINTS} held out; MLP of 256 x 3, {digits.STEPS} steps of "
        f"{digits.BATCH} examples",
        "MNIST": f"7 checkpoints of mnist_ddpm_cnn_trajectory_hughes_run1; {checkpoints.POINTS} test images",
        "mixture": f"{digits.COMPONENTS} components by k-means, no EM",
    },
    notes=(
        "The part on MNIST needs files that do not come with the library, weights and mnist in the folder that "
        "DIFFUSCOPE_DATA names; without them it says so and claims nothing.",
    ),
)

__all__ = ["LEARNING_CURVE"]
