"""Convert a GGUF file to a model folder: weights dequantized to bf16, configuration and tokenizer from its metadata.

python scripts/model/dequantize_gguf.py model.gguf --name small --folder results/models/small \
    --settings '{"architecture": "llama", "gguf": {"file": "model.gguf", ...}, ...}'
"""

import sys
from pathlib import Path

from scripts.common.checksums import intact
from scripts.common.cli import log
from scripts.common.files import atomic_folder, sha256_of, write_json
from scripts.gguf.base_config import generation_config, model_config
from scripts.gguf.base_tokenizer import write_tokenizer
from scripts.gguf.base_weights import write_weights
from scripts.gguf.check import check_gguf
from scripts.gguf.tensor_types import tensor_types, weight_bits
from scripts.model.model_folder import finish_model_folder, import_main


def dequantize_gguf(source: Path, folder: Path, name: str, settings: dict, chat_template: Path | None = None) -> None:
    """Write a model folder from a GGUF file, its manifest last.

    `settings` is the model's section of the configuration; without a licence there, the file's is used. Raises
    UserError for an invalid file, or an unsupported architecture, tokenizer or type.
    """
    file, origin = check_gguf(intact(source)), settings["gguf"]
    facts = {
        "file": Path(origin["file"]).name,
        "bytes": source.stat().st_size,
        "sha256": sha256_of(source),
        "tensor_types": tensor_types(file),
        "bits": weight_bits(file),
    }
    log.info("%s: tensors by type: %s", source.name, facts["tensor_types"])
    with atomic_folder(folder) as beside:
        config = model_config(file, settings["architecture"])
        write_json(beside / "config.json", config, part=True)
        write_json(beside / "generation_config.json", generation_config(file), part=True)
        write_tokenizer(file, beside)
        write_weights(file, beside)
        finish_model_folder(
            beside,
            {**settings, "license": settings["license"] or file.values.get("general.license")},
            chat_template,
            name=name,
            source="gguf",
            id=origin["package"] and f"{origin['package']}=={origin['version']}",
            revision=origin["sha256"],
            gguf=facts,
        )


main = import_main(dequantize_gguf, __doc__.splitlines()[0], source="GGUF file")

if __name__ == "__main__":
    sys.exit(main())
