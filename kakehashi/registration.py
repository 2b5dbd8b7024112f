"""Registers the kakehashi classes and pipelines with Transformers, without importing Transformers.

`AutoModelForSeq2SeqLM.register(...)` needs the Auto classes and ours, and either pulls in torch: two seconds that
`import kakehashi` and `kakehashi --help` must not cost. So `register_with_transformers` registers what is already
imported and, for the rest, puts a finder on `sys.meta_path` that waits until somebody else imports the Auto classes.

Two imports can be under way at that moment, and both would break if our model file were imported too early:
`transformers.modeling_layers` imports the Auto classes half-way through itself and our model file needs it whole; and
our model file imports `transformers.modeling_layers`. Therefore the finder acts when the *outermost* watched import
ends, not when the Auto module does. Once everything is registered it removes itself.

`pipeline` stands in a module of its own, which many programs never import: until then the finder stays in place.

Tokenizers need no registration: `AutoTokenizer` falls back on the class named in `tokenizer_config.json`.
"""

import re
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

MODEL_TYPE = "kakehashi"
CONFIGURATION_MODULE = "kakehashi.modeling.configuration_kakehashi"
MODELING_MODULE = "kakehashi.modeling.modeling_kakehashi"
PIPELINES_MODULE = "kakehashi.modeling.pipelines_kakehashi"

MODEL_CLASSES = {
    "AutoModel": "KakehashiModel",
    "AutoModelForSeq2SeqLM": "KakehashiForConditionalGeneration",
    "AutoModelForCausalLM": "KakehashiForCausalLM",
    "AutoModelForMaskedLM": "KakehashiForMaskedLM",
    "AutoModelForSequenceClassification": "KakehashiForSequenceClassification",
    "AutoModelForTokenClassification": "KakehashiForTokenClassification",
    "AutoModelForTextEncoding": "KakehashiEncoderModel",
}
"""Auto class → the kakehashi class it builds from a `KakehashiConfig`."""

_AUTO_CONFIGURATION_MODULE = "transformers.models.auto.configuration_auto"
_AUTO_MODELING_MODULE = "transformers.models.auto.modeling_auto"
_PIPELINES_MODULE = "transformers.pipelines"
_WATCHED_PREFIXES = ("transformers.", "kakehashi.modeling.")


def register_with_transformers() -> None:
    """Registers now with the Auto classes already imported, later with those imported later.

    Calling it again is harmless: the earlier finder is replaced and the registrations are repeated.
    """
    sys.meta_path[:] = [finder for finder in sys.meta_path if not _is_import_watch(finder)]
    watch = _ImportWatch()
    watch.register_what_is_imported()
    if not watch.is_finished:
        sys.meta_path.insert(0, watch)


def register_configuration() -> None:
    """Makes `AutoConfig` build a `KakehashiConfig` from a `config.json` with `"model_type": "kakehashi"`."""
    auto = import_module(_AUTO_CONFIGURATION_MODULE)
    configuration = import_module(CONFIGURATION_MODULE)
    auto.AutoConfig.register(MODEL_TYPE, configuration.KakehashiConfig, exist_ok=True)


def register_models() -> None:
    """Makes each Auto class in `MODEL_CLASSES` build its kakehashi class."""
    auto = import_module(_AUTO_MODELING_MODULE)
    configuration, modeling = import_module(CONFIGURATION_MODULE), import_module(MODELING_MODULE)
    for auto_name, model_name in MODEL_CLASSES.items():
        auto_class, model_class = getattr(auto, auto_name), getattr(modeling, model_name)
        auto_class.register(configuration.KakehashiConfig, model_class, exist_ok=True)


def register_pipelines() -> None:
    """Makes `pipeline("translation")` and the others of `PIPELINES` build our pipelines.

    Transformers knows these tasks as removed, and `translation_xx_to_yy` as any of many names: the first are no longer
    removed, the second become other names of `translation`.
    """
    library, ours = import_module(_PIPELINES_MODULE), import_module(PIPELINES_MODULE)
    auto, configuration = import_module(_AUTO_MODELING_MODULE), import_module(CONFIGURATION_MODULE)
    registry = library.PIPELINE_REGISTRY
    for task, class_name in configuration.PIPELINES.items():
        getattr(library, "REMOVED_TASKS", {}).pop(task, None)
        # Without a second registration, which the library warns of.
        if registry.supported_tasks.get(task, {}).get("impl") is not getattr(ours, class_name):
            registry.register_pipeline(
                task, getattr(ours, class_name), pt_model=auto.AutoModelForSeq2SeqLM, type="text"
            )
    registry.task_aliases = _TaskAliases(registry.task_aliases, ours.TRANSLATION_TASK)


class _TaskAliases(dict[str, str]):
    """The other names of tasks, among them `translation_xx_to_yy` for every two languages."""

    def __init__(self, aliases: Mapping[str, str], translation_task: re.Pattern[str]) -> None:
        super().__init__(aliases)
        self._translation_task = translation_task

    def __contains__(self, task: object) -> bool:
        return super().__contains__(task) or (
            isinstance(task, str) and self._translation_task.fullmatch(task) is not None
        )

    def __missing__(self, task: str) -> str:
        if task in self:
            return "translation"
        raise KeyError(task)


def _is_import_watch(finder: object) -> bool:
    # By name: after `importlib.reload` the finder in place is an instance of the class as it was before.
    kind = type(finder)
    return (kind.__module__, kind.__qualname__) == (_ImportWatch.__module__, _ImportWatch.__qualname__)


def _is_imported(name: str) -> bool:
    module = sys.modules.get(name)
    return module is not None and not getattr(module.__spec__, "_initializing", False)


class _ImportWatch(MetaPathFinder):
    """Notices when the outermost import below `_WATCHED_PREFIXES` ends, and registers then."""

    def __init__(self) -> None:
        self._has_configuration = False
        self._has_models = False
        self._has_pipelines = False
        self._nesting = threading.local()

    @property
    def is_finished(self) -> bool:
        """Whether nothing is left to wait for."""
        return self._has_configuration and self._has_models and self._has_pipelines

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Finds the module as the other finders do, and wraps its loader so that its end is noticed."""
        if not fullname.startswith(_WATCHED_PREFIXES):
            return None
        others = (finder for finder in sys.meta_path if not _is_import_watch(finder))
        specs = (finder.find_spec(fullname, path, target) for finder in others if hasattr(finder, "find_spec"))
        spec = next((spec for spec in specs if spec is not None), None)
        if spec is not None and spec.loader is not None:
            spec.loader = _NoticedLoader(spec.loader, self)
        return spec

    @contextmanager
    def importing(self) -> Iterator[None]:
        """Surrounds one watched import; what is registered is registered before the outermost one is left."""
        depth = getattr(self._nesting, "depth", 0)
        self._nesting.depth = depth + 1
        try:
            yield
            if depth == 0:
                # Every watched import of this thread has run to its end, the outermost included, although Python
                # still counts that one as unfinished: so look for presence here, not for completion.
                self._register(sys.modules.__contains__)
        finally:
            self._nesting.depth = depth

    def register_what_is_imported(self) -> None:
        """Registers with the Auto classes that somebody imported before this finder was in place."""
        self._register(_is_imported)

    def _register(self, is_ready: Callable[[str], bool]) -> None:
        try:
            if not self._has_configuration and is_ready(_AUTO_CONFIGURATION_MODULE):
                register_configuration()
                self._has_configuration = True
            if not self._has_models and is_ready(_AUTO_MODELING_MODULE):
                register_models()
                self._has_models = True
            if not self._has_pipelines and is_ready(_PIPELINES_MODULE):
                register_pipelines()
                self._has_pipelines = True
        except Exception as error:
            # Somebody is importing Transformers for a purpose of their own: that must not fail because of us.
            warnings.warn(f"kakehashi could not register its classes with Transformers: {error!r}", stacklevel=2)
            self._has_configuration = self._has_models = self._has_pipelines = True
        if self.is_finished and self in sys.meta_path:
            sys.meta_path.remove(self)


class _NoticedLoader(Loader):
    """Runs a module with its own loader, inside `_ImportWatch.importing`."""

    def __init__(self, loader: Loader, watch: _ImportWatch) -> None:
        self._loader = loader
        self._watch = watch

    def __getattr__(self, name: str) -> object:
        # `get_source`, `get_code`, `is_package`, … for whoever looks at the spec before the module runs.
        return getattr(self._loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """Creates the module as its own loader does."""
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """Runs the module; afterwards nothing in it shows that it was watched."""
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        with self._watch.importing():
            self._loader.exec_module(module)
