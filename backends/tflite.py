"""TensorFlow Lite on the CPU; opens .tflite files and hides quantised inputs and outputs."""

from typing import Any, Dict, List, Tuple

from backends import Backend, Session, checks, litert

OPTIONS = {"threads": int, "profile": bool, "runtime": str}


class TfliteBackend(Backend):
    """TensorFlow Lite on the CPU, with the XNNPACK delegate that the runtime applies by itself."""

    name = "tflite"
    formats = ("tflite",)
    options = OPTIONS

    def runtime(self, options: Dict[str, Any]) -> Tuple[Any, str, str]:
        """Import the runtime and return module, distribution and version; raises FaultError env_missing."""
        return litert.import_runtime(options)

    def devices(self, runtime: Any) -> List[str]:
        """Return the CPU."""
        return ["CPU"]

    def load(self, artifact: str, options: Dict[str, Any]) -> Session:
        """Open a .tflite file; options: threads (1 by default) and runtime, which also says which of the two to import."""
        checks.check_options(self.name, options, OPTIONS)
        checks.check_file(artifact)
        module, name, version = litert.import_runtime(options)
        threads = options.get("threads", 1)
        try:
            interpreter = litert.interpreter(module, artifact, threads)
        except (ValueError, RuntimeError) as error:
            raise checks.refusal(artifact, error, litert.UNKNOWN_OPERATOR) from None
        return litert.LitertSession(interpreter, {"runtime": name, "version": version, "threads": threads})


BACKEND = TfliteBackend()
