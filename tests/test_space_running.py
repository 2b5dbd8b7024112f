"""The page of a Space, started as anyone would start it: asked over HTTP, and used in a browser.

The model is a tiny one that has learnt two sentences. It comes from the cache of a Hub, and kakehashi is hidden.
"""

import os
import re
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest
import torch
from huggingface_hub import SpaceCard

from kakehashi.modeling import KakehashiForConditionalGeneration, KakehashiForSequenceClassification
from kakehashi.tokenization.chat import encode_target
from kakehashi.training.inference import encode_prompt, generate_texts
from kakehashi.training.space.folder import write_space

gradio_client = pytest.importorskip("gradio_client", reason="the extra `space` is not installed")
pytest.importorskip("gradio", reason="the extra `space` is not installed")

PAIRS = {"ja": ("I love cats.", "私は猫が大好きです。"), "en": ("私は猫が大好きです。", "I love cats.")}
NAMES = {"ja": "Japanese", "en": "English"}
# Where kakehashi is hidden, the page can only run on what the Space holds.
START = "import sys, runpy; sys.modules['kakehashi'] = None; runpy.run_path('app.py', run_name='__main__')"
TYPED = "<img src=x onerror=alert(1)> ${1+1}"

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")
needs_browser = pytest.mark.skipif(
    not (BROWSER and DRIVER), reason="needs chromium and chromedriver: on Debian, apt install chromium chromium-driver"
)


def teach(model, tokenizer, steps=40):
    """Lets a model learn `PAIRS` by heart."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.0)
    examples = []
    for language, (source, target) in PAIRS.items():
        turns = [{"role": "user", "content": f"Translate to {NAMES[language]}: {source}"}]
        examples.append((encode_prompt(model, tokenizer, turns), encode_target(tokenizer, target)))
    for step in range(steps):
        source, target = examples[step % len(examples)]
        loss = model(input_ids=torch.tensor([source]), labels=torch.tensor([target])).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()


@pytest.fixture(scope="module")
def cache(tmp_path_factory, build_sharp_model, tiny_tokenizer):
    """A `HF_HOME` with two models of the Hub in its cache."""
    home = tmp_path_factory.mktemp("hub")
    torch.manual_seed(0)
    translator = KakehashiForConditionalGeneration(build_sharp_model(KakehashiForConditionalGeneration).config)
    teach(translator.train(), tiny_tokenizer)
    classifier = build_sharp_model(
        KakehashiForSequenceClassification, id2label={0: "動物", 1: "food"}, label2id={"動物": 0, "food": 1}
    )
    for name, model in (("translator", translator.eval()), ("labels", classifier)):
        repository = home / "hub" / f"models--someone--{name}"
        model.save_pretrained(repository / "snapshots" / ("0" * 40))
        tiny_tokenizer.save_pretrained(repository / "snapshots" / ("0" * 40))
        (repository / "refs").mkdir()
        (repository / "refs" / "main").write_text("0" * 40)
    for source, target in PAIRS.values():
        language = "Japanese" if source.isascii() else "English"
        assert generate_texts(translator, tiny_tokenizer, [f"Translate to {language}: {source}"]) == [target]
    return home


@pytest.fixture(scope="module")
def address(cache, tmp_path_factory):
    """The address of the running page."""
    space = tmp_path_factory.mktemp("space") / "page"
    names = {"model": "someone/translator", "classifier": "someone/labels"}
    # Written here as the command would: this process looks for the Hub's cache in another folder.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kakehashi.training.space.folder._check", lambda *arguments: None)
        write_space(names["model"], space, classifier=names["classifier"], title="Bridge 架け橋")
    assert SpaceCard.load(space / "README.md").data.models == list(names.values())
    environment = {
        **os.environ,
        "HF_HOME": str(cache),
        "HF_HUB_OFFLINE": "1",
        "HF_MODULES_CACHE": str(cache / "modules"),
        "GRADIO_ANALYTICS_ENABLED": "False",
        "GRADIO_TEMP_DIR": str(cache / "gradio"),
        "PYTHONUNBUFFERED": "1",
    }
    log = space.parent / "log"
    with log.open("w", encoding="utf-8") as stream:
        page = subprocess.Popen(
            [sys.executable, "-c", START], cwd=space, env=environment, stdout=stream, stderr=subprocess.STDOUT
        )
        try:
            yield wait_for_address(page, log)
        finally:
            page.terminate()
            page.wait(timeout=30)
    said = log.read_text("utf-8")
    assert "cats" not in said and "猫" not in said, "what was typed stands in the log"
    assert "Traceback" not in said, said
    assert sorted(path.name for path in space.iterdir()) == ["README.md", "app.py", "requirements.txt", "space.json"]


def wait_for_address(page, log, seconds=120):
    for _ in range(seconds * 4):
        found = re.search(r"http://127\.0\.0\.1:\d+", log.read_text("utf-8"))
        if found:
            return found.group()
        assert page.poll() is None, log.read_text("utf-8")
        time.sleep(0.25)
    raise AssertionError(log.read_text("utf-8"))


@pytest.fixture(scope="module")
def client(address):
    connected = gradio_client.Client(address, verbose=False, analytics_enabled=False)
    yield connected
    connected.close()


def test_it_translates_both_ways(client):
    for language, (source, target) in PAIRS.items():
        assert client.predict(source, language, api_name="/translate") == target


def test_it_labels_a_text(client):
    answer = client.predict("I love cats.", api_name="/classify")
    assert {each["label"] for each in answer["confidences"]} == {"動物", "food"}


def test_it_shows_tokens_and_attention_and_another_layer_without_asking_the_model_again(client):
    answer, source, target, picture = client.predict("I love cats.", "ja", "cross", 0, 0, api_name="/look_inside")
    assert answer == PAIRS["ja"][1]
    rows, columns = (len(re.findall("<small>", each)) for each in (target, source))
    assert picture.count("<td") == (rows - 1) * columns
    other = client.predict("I love cats.", "ja", "encoder", 1, 2, api_name="/look_inside")[3]
    assert other.count("<td") == columns * columns


@pytest.mark.parametrize(("text", "words"), [("", "Type a sentence first"), ("a" * 2_001, "2,000 characters")])
def test_what_it_refuses_can_be_read(client, text, words):
    with pytest.raises(gradio_client.exceptions.AppError, match=words):
        client.predict(text, "ja", api_name="/translate")


@contextmanager
def browser(language):
    """A headless Chromium that reaches this machine only."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    options.page_load_strategy = "eager"
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--no-first-run",
        "--window-size=1280,1300",
        f"--lang={language}",
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    ):
        options.add_argument(argument)
    options.add_experimental_option("prefs", {"intl.accept_languages": language})
    options.set_capability("goog:loggingPrefs", {"browser": "SEVERE"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    try:
        yield driver
    finally:
        driver.quit()


class Visitor:
    """Somebody in front of the page."""

    def __init__(self, driver, address):
        from selenium.webdriver.support.ui import WebDriverWait

        self.driver = driver
        self.wait = WebDriverWait(driver, 60, ignored_exceptions=[Exception]).until
        driver.get(address)
        self.wait(lambda _: self.find("#translate-button").is_displayed())

    def find(self, selector):
        return self.driver.find_element("css selector", selector)

    def shown(self, selector):
        return [each for each in self.driver.find_elements("css selector", selector) if each.is_displayed()]

    def open_tab(self, name, button):
        self.wait(lambda _: next(tab for tab in self.shown("button[role=tab]") if tab.text == name)).click()
        self.wait(lambda _: self.find(button).is_displayed())

    def type_and_click(self, text, button):
        self.shown("textarea")[0].send_keys(text)
        self.find(button).click()

    def read(self, selector):
        return self.find(selector).get_property("value")


@needs_browser
def test_a_visitor_types_a_sentence_and_reads_its_translation(address, tmp_path):
    with browser("en") as driver:
        page = Visitor(driver, address)
        assert [tab.text for tab in page.shown("button[role=tab]")] == ["Translate", "Classify", "Look inside"]
        page.type_and_click(PAIRS["ja"][0], "#translate-button")
        page.wait(lambda _: page.read("#translation textarea") == PAIRS["ja"][1])
        assert driver.save_screenshot(str(tmp_path / "page.png"))
        assert (tmp_path / "page.png").read_bytes().startswith(b"\x89PNG")

        page.open_tab("Classify", "#classify-button")
        page.type_and_click(PAIRS["ja"][0], "#classify-button")
        page.wait(lambda _: "動物" in page.find("#labels").text)

        page.open_tab("Look inside", "#look-button")
        page.find("#look-button").click()
        page.wait(lambda _: "Type a sentence first" in page.find(".toast-wrap, [data-testid=toast-body]").text)
        page.type_and_click(PAIRS["ja"][0], "#look-button")
        page.wait(lambda _: page.shown("#map td"))
        cells = len(page.shown("#map td"))
        next(label for label in page.shown("#kind label") if "encoder" in label.text).click()
        page.wait(lambda _: len(page.shown("#map td")) not in (0, cells))

        fetched = driver.execute_script("return performance.getEntriesByType('resource').map(each => each.name)")
        assert [url for url in fetched if not url.startswith((address, "data:", "blob:"))] == []
        assert [entry["message"] for entry in driver.get_log("browser")] == []


@needs_browser
def test_a_japanese_browser_gets_a_japanese_page_and_no_typed_html_runs(address):
    with browser("ja") as driver:
        page = Visitor(driver, address)
        page.wait(lambda _: [tab.text for tab in page.shown("button[role=tab]")] == ["翻訳", "分類", "中を見る"])
        assert "__i18n__" not in page.find("body").text
        page.open_tab("中を見る", "#look-button")
        page.type_and_click(TYPED, "#look-button")
        page.wait(lambda _: page.shown("#source-tokens span"))
        shown = "".join(each.text.split("\n")[0] for each in page.shown("#source-tokens span"))
        assert TYPED.replace(" ", "") in shown.replace("␣", "")
        assert page.shown("#source-tokens img") == []
