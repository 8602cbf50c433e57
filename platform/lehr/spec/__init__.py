"""The spec: what a job file may say, read strictly and frozen.

spec.load(path, overrides) -> Spec        a file and `--set` texts
spec.parse(text) -> Spec                  YAML text
spec.restore(document) -> Spec            what Spec.document() gave
spec.text(spec) -> str                    YAML again, every default filled in
spec.spec_hash(spec), spec.difference(old_document, new_document)
spec.kinds.load(node)                     the code behind a `kind:`
spec.secrets.resolve(reference)           a secret, at the last moment
"""

from lehr.spec import kinds, secrets
from lehr.spec.identity import difference, spec_hash
from lehr.spec.job import Spec
from lehr.spec.reading import load, parse, restore, text

__all__ = ["Spec", "difference", "kinds", "load", "parse", "restore", "secrets", "spec_hash", "text"]
