"""`kakehashi classify-text`: one line of text in, one label and its probability out."""

from kakehashi.commands import options
from kakehashi.commands.lines import answer_lines, silence_libraries


def classify_text(
    model: options.Model,
    texts: options.Texts = None,
    batch_size: options.BatchSize = 16,
    device: options.DeviceName = options.Device.auto,
    dtype: options.DtypeName = options.Dtype.auto,
    trust_remote_code: options.TrustRemoteCode = False,
) -> None:
    """Label each TEXT, or each line of stdin: the label, a tab, its probability."""
    silence_libraries()
    from kakehashi.training.inference import classify_texts, load_for_classification

    network, tokenizer = load_for_classification(
        model, device=device.argument, dtype=dtype.argument, trust_remote_code=trust_remote_code
    )

    def answer(lines: list[str]) -> list[str]:
        labels = classify_texts(network, tokenizer, lines, batch_size=batch_size)
        return [f"{label}\t{probability:.4f}" for label, probability in labels]

    answer_lines(texts, answer, batch_size=batch_size)
