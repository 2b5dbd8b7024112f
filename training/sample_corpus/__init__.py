"""An English-Japanese corpus made by a small grammar of our own, to try everything without a download.

How the two languages answer to each other, everywhere in the corpus:

- English does not show politeness, so the canonical Japanese sentence is polite (です, ます). Plain sentences occur in
  the text, as sources of translations into English, and in instructions about politeness; never as the canonical
  answer of a translation into Japanese.
- The speaker is 私は, which may be dropped; the listener is dropped, and may be あなたは. Everyone else is named.
- Japanese has no articles and no number, so the canonical English ones follow from verb and frame ("I ate an apple",
  "I like apples"). What else the Japanese may mean is among the references.
- Every noun belongs to one topic, and the nouns of a sentence to the same one, so the topic of a sentence is never in
  doubt. Clothing includes what one carries, travel includes vehicles, hobbies include books, sport and music, work
  includes office machines, nature includes the weather.
"""

from kakehashi.training.sample_corpus.corpus import Split, split_pairs, write_sample_corpus
from kakehashi.training.sample_corpus.pairs import Pair, corpus_statistics, generate_pairs

__all__ = ["Pair", "Split", "corpus_statistics", "generate_pairs", "split_pairs", "write_sample_corpus"]
