"""All sentence frames of the sample corpus in one list."""

from kakehashi.training.sample_corpus.frame import Frame
from kakehashi.training.sample_corpus.frames_actions import ACTION_FRAMES

FRAMES: tuple[Frame, ...] = (*ACTION_FRAMES,)
