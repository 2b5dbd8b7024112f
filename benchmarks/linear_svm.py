"""The bar for a classifier: a linear support vector machine on TF-IDF, on the files that `kakehashi classify` takes.

    python benchmarks/linear_svm.py train.jsonl.xz test.jsonl.xz --tokenizer runs/tokenizer

    features          what a text is taken apart into
    words             runs of letters and digits
    tokens            the entries of a vocabulary, one by one (with `--tokenizer`)
    token pairs       the same, and every two that follow each other
    characters        runs of one to four characters
    within words      runs of two to five characters that cross no space

Accuracy and macro-F1 on the test rows. It takes one processor seconds to minutes.
"""

from pathlib import Path
from typing import Annotated, Any

import typer
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.metrics import accuracy_score, f1_score
from sklearn.pipeline import make_pipeline
from sklearn.svm import LinearSVC
from transformers import AutoTokenizer

from kakehashi.training.documents import load_rows


def vectorizers(tokenizer: Any | None) -> dict[str, TfidfVectorizer]:
    """Name of the features → what counts them; counts are damped by a logarithm."""
    found = {
        "words": TfidfVectorizer(sublinear_tf=True),
        "characters": TfidfVectorizer(sublinear_tf=True, analyzer="char", ngram_range=(1, 4), min_df=2),
        "within words": TfidfVectorizer(sublinear_tf=True, analyzer="char_wb", ngram_range=(2, 5), min_df=2),
    }
    if tokenizer is not None:
        found["tokens"] = TfidfVectorizer(sublinear_tf=True, analyzer=tokenizer.tokenize)
        found["token pairs"] = TfidfVectorizer(
            sublinear_tf=True,
            tokenizer=tokenizer.tokenize,
            token_pattern=None,
            lowercase=False,
            ngram_range=(1, 2),
            min_df=2,
        )
    return found


def main(
    train_files: Annotated[list[Path], typer.Argument(help="Training files, and the test file last.")],
    tokenizer: Annotated[Path | None, typer.Option(help="Tokenizer folder.")] = None,
    text_column: Annotated[str, typer.Option(help="Column that holds the text.")] = "text",
    label_column: Annotated[str, typer.Option(help="Column that holds the label.")] = "label",
) -> None:
    """Fits and prints the table."""
    if len(train_files) < 2:
        raise typer.BadParameter(f"give at least one training file and a test file, got {len(train_files)} file")
    *training, test = map(str, train_files)
    (texts, labels), (test_texts, truth) = (
        (list(rows[text_column]), list(rows[label_column])) for rows in (load_rows(training), load_rows(test))
    )
    print(f"{len(texts):,} training rows, {len(truth):,} test rows\n")
    print("| features | number | accuracy | macro-F1 |")
    print("|---|---:|---:|---:|")
    for name, vectorizer in vectorizers(tokenizer and AutoTokenizer.from_pretrained(tokenizer)).items():
        classifier = make_pipeline(vectorizer, LinearSVC(C=1.0)).fit(texts, labels)
        found = classifier.predict(test_texts)
        scores = accuracy_score(truth, found), f1_score(truth, found, average="macro")
        print(f"| {name} | {len(vectorizer.vocabulary_):,} | {scores[0]:.3f} | {scores[1]:.3f} |")


if __name__ == "__main__":
    typer.run(main)
