"""The list of models that `load` knows by name."""

import open_clip
import pytest

from multimodal import load, models
from multimodal.zoo.catalogue import SHIPPED


def test_the_model_in_the_package_comes_first_and_is_as_listed():
    listed = models()[0]
    model = load("small", device="cpu")
    assert (listed.name, listed.where) == ("small", "in the package")
    assert set(listed.can) == model.can
    assert listed.num_parameters == model.num_parameters
    assert set(SHIPPED) == {listed.name}


def test_families_are_contiguous():
    groups = [family for family, _ in models().groups]
    assert len(set(groups)) >= 12
    assert groups == sorted(groups, key=groups.index)
    assert sum(map(len, models().groups.values())) == len(models())
    assert {"CLIP", "SigLIP", "SigLIP 2", "CoCa", "BLIP", "EVA-CLIP", "MobileCLIP", "ConvNeXt"} <= set(groups)


def test_every_tag_has_the_activation_of_its_name():
    """`load` refuses a tag that was trained with the other activation."""
    listed = {(each.name, tag) for each in models() for tag in each.tags}
    assert listed <= set(open_clip.list_pretrained())
    assert ("ViT-B-32-quickgelu", "openai") in listed
    assert ("ViT-B-32", "openai") not in listed
    assert ("ViT-B-32", "laion2b_s34b_b79k") in listed
    everywhere = {tag for _, tag in open_clip.list_pretrained()}
    assert {tag for _, tag in listed} == everywhere  # every tag is listed


def test_filters():
    captioners = models(can="caption")
    assert {"small", "coca_ViT-B-32", "Salesforce/blip-image-captioning-base"} <= {x.name for x in captioners}
    assert [each.name for each in models(can="answer")] == ["Salesforce/blip-vqa-base"]
    assert {each.family for each in models(family="siglip 2")} == {"SigLIP 2"}
    metaclip = models(family="MetaCLIP")
    assert metaclip
    assert all("metaclip" in tag for each in metaclip for tag in each.tags)
    assert models(family="no such thing") == []
    with pytest.raises(ValueError, match=r"can: expected one of \['answer', .*\], got 'fly'"):
        models(can="fly")


def test_list_renders_itself():
    listed = models(family="coca")
    assert str(listed).splitlines()[1].startswith("coca_ViT-B-32  CoCa  classify, search, caption")
    page = listed._repr_html_()
    assert page.count("<tr>") == len(listed) + 1
    assert "laion2b_s13b_b90k" in page
    assert listed.to_dict()["models"][1]["tags"] == list(listed[1].tags)
