"""All sentence frames of the sample corpus in one list."""

from kakehashi.training.sample_corpus.frame import Frame
from kakehashi.training.sample_corpus.frames_actions import ACTION_FRAMES
from kakehashi.training.sample_corpus.frames_conditions import CONDITION_FRAMES
from kakehashi.training.sample_corpus.frames_people import PEOPLE_FRAMES
from kakehashi.training.sample_corpus.frames_places import PLACE_FRAMES
from kakehashi.training.sample_corpus.frames_qualities import QUALITY_FRAMES
from kakehashi.training.sample_corpus.frames_things import THING_FRAMES

FRAMES: tuple[Frame, ...] = (
    *ACTION_FRAMES,
    *THING_FRAMES,
    *QUALITY_FRAMES,
    *PLACE_FRAMES,
    *PEOPLE_FRAMES,
    *CONDITION_FRAMES,
)
