from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from registry.errors import Corrupt, Invalid, NotFound, Unavailable
from registry.settings import Settings
from serving.base import Base, choose_device, choose_dtype, load_base
from serving.slab import LARGE_PAGE, LINE


def test_every_linear_lies_in_one_site_and_shares_its_storage(tiny_base: Base) -> None:
    names = [name for site in tiny_base.sites for name in site.names]
    assert sorted(names) == sorted(tiny_base.profile.linears)
    assert len(names) == 7 * 3
    tree = tiny_base.module_tree()
    for site in tiny_base.sites:
        start = 0
        for name, out in zip(site.names, site.out_features, strict=True):
            weight = tree.get_submodule(name).weight
            assert weight.data_ptr() == site.weight[start].data_ptr()
            assert tuple(weight.shape) == tiny_base.profile.linears[name] == (out, site.in_features)
            start += out


def test_the_weights_of_a_step_lie_one_behind_the_other(tiny_base: Base) -> None:
    begins = [site.weight.data_ptr() for site in (*tiny_base.sites, tiny_base.head)]
    ends = [site.weight.data_ptr() + site.weight.nbytes for site in (*tiny_base.sites, tiny_base.head)]
    assert begins[0] % LARGE_PAGE == 0
    assert all(0 <= begin - end < LINE * 3 for end, begin in zip(ends, begins[1:], strict=False))
    assert tiny_base.profile.is_tied == (tiny_base.input_embeddings.data_ptr() == tiny_base.head.weight.data_ptr())


def test_trees_share_weights_but_not_structure(tiny_base: Base) -> None:
    one, other = tiny_base.module_tree(), tiny_base.module_tree("eager")
    one.model.layers[0].mlp.up_proj = torch.nn.Identity()
    assert isinstance(other.model.layers[0].mlp.up_proj, torch.nn.Linear)
    assert one.model.norm.weight is other.model.norm.weight
    assert not any(parameter.requires_grad for parameter in other.parameters())
    assert (one.config._attn_implementation, other.config._attn_implementation) == ("sdpa", "eager")


def test_the_profile_describes_the_base(tiny_base: Base) -> None:
    profile = tiny_base.profile
    assert (profile.architecture, profile.num_layers, profile.hidden_size) == ("LlamaForCausalLM", 3, 48)
    assert (profile.vocab_size, profile.context_length) == (259, 1024)
    assert "tiny-llama" in profile.names
    assert tiny_base.eos_token_ids == {2}


def test_a_conversation_is_rendered_with_its_special_tokens(tiny_base: Base) -> None:
    tokens = tiny_base.render([{"role": "user", "content": "hé"}])
    assert tiny_base.tokenizer.decode(tokens) == "<|im_start|>user\nhé<|im_end|>\n<|im_start|>assistant\n"
    assert tokens[0] == 1
    assert 2 in tokens
    whole = tiny_base.render([{"role": "user", "content": "hé"}], add_generation_prompt=False)
    assert tokens[: len(whole)] == whole


def test_messages_the_template_cannot_take_are_invalid(tiny_base: Base) -> None:
    with pytest.raises(Invalid):
        tiny_base.render([{"role": "user"}])


def test_identity_is_stable_and_follows_the_bytes(
    tiny_base: Base, tiny_base_dir: Path, tiny_settings: Settings, tmp_path: Path
) -> None:
    assert load_base(tiny_settings).profile == tiny_base.profile
    other = Path(shutil.copytree(tiny_base_dir, tmp_path / "other"))
    template = other / "chat_template.jinja"
    template.write_text(template.read_text() + " ")
    identity = load_base(Settings(base=str(other), dtype="float32", threads=1)).profile.identity
    assert identity.template_sha256 != tiny_base.profile.identity.template_sha256
    assert identity.weights_sha256 == tiny_base.profile.identity.weights_sha256
    assert identity.tokenizer_sha256 == tiny_base.profile.identity.tokenizer_sha256


def test_identity_does_not_depend_on_the_working_dtype(tiny_base: Base, tiny_base_dir: Path) -> None:
    half = load_base(Settings(base=str(tiny_base_dir), dtype="bfloat16", threads=1))
    assert half.dtype == torch.bfloat16
    assert half.profile == tiny_base.profile


def test_a_changed_weight_is_noticed(tiny_base_dir: Path) -> None:
    base = load_base(Settings(base=str(tiny_base_dir), dtype="float32", threads=1))
    base.check_integrity()
    with torch.no_grad():
        base.sites[0].weight[0, 0] += 1
    with pytest.raises(Corrupt):
        base.check_integrity()


def test_wrong_bases_say_what_is_wrong(tmp_path: Path, tiny_base_dir: Path) -> None:
    def load(base: Any) -> None:
        load_base(Settings(base=str(base), cache_dir=str(tmp_path / "cache"), threads=1))

    for missing in ("nothing-like-this", tmp_path / "none.gguf", "./no/such/dir"):
        with pytest.raises(NotFound):
            load(missing)
    (tmp_path / "empty").mkdir()
    with pytest.raises(Invalid, match=r"config\.json"):
        load(tmp_path / "empty")
    pickled = Path(shutil.copytree(tiny_base_dir, tmp_path / "pickled"))
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    with pytest.raises(Invalid, match="safetensors"):
        load(pickled)
    torn = Path(shutil.copytree(tiny_base_dir, tmp_path / "torn"))
    (torn / "model.safetensors").write_bytes((torn / "model.safetensors").read_bytes()[:-100])
    with pytest.raises(Corrupt):
        load(torn)


def test_auto_is_bfloat16_only_where_it_is_native() -> None:
    native = torch.cpu.get_capabilities()
    expected = torch.bfloat16 if native.get("avx512_bf16") or native.get("amx_bf16") else torch.float32
    assert choose_dtype("auto", torch.device("cpu")) == expected
    assert choose_dtype("float32", torch.device("cpu")) == torch.float32
    assert choose_dtype("auto", torch.device("cuda")) == torch.bfloat16


def test_a_device_that_is_asked_for_must_be_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto").type == choose_device("cpu").type == "cpu"
    with pytest.raises(Unavailable, match="no CUDA device"):
        choose_device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert (choose_device("auto").type, choose_device("cuda").type, choose_device("cpu").type) == (
        "cuda",
        "cuda",
        "cpu",
    )
