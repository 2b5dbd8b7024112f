"""An English-Japanese corpus made by a small grammar of our own, to try everything without a download."""

from kakehashi.training.sample_corpus.corpus import Split, split_pairs, write_sample_corpus
from kakehashi.training.sample_corpus.pairs import Pair, corpus_statistics, generate_pairs

__all__ = ["Pair", "Split", "corpus_statistics", "generate_pairs", "split_pairs", "write_sample_corpus"]
