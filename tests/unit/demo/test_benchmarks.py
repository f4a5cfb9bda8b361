"""The demo's benchmarks: negatives are false, classes are what is drawn, positives are captions of the same words."""

from frozenalign.demo.benchmarks import hard_negatives, kinds_of, same_words
from frozenalign.demo.samples import BENCHMARKS, SHOWN, describe_scenes, sample_scenes

SCENES = {f"{i}.png": scene for i, scene in enumerate(sample_scenes(0, BENCHMARKS, 80))}


def test_a_negative_differs_from_its_caption_and_the_same_seed_gives_the_same():
    rows = hard_negatives(SCENES, 0)
    assert [row["filename"] for row in rows.values()] == list(SCENES)
    assert all(row["caption"] != row["negative_caption"] for row in rows.values())
    assert rows == hard_negatives(SCENES, 0)


def test_a_scene_of_one_shape_is_of_the_class_of_its_kind():
    found = kinds_of(SCENES)
    alone = {name: scene.shapes[0].kind for name, scene in SCENES.items() if len(scene.shapes) == 1}
    assert found["images"] == alone
    assert set(alone.values()) <= set(found["classes"])


def test_positives_are_the_images_of_all_captions_with_the_same_words():
    found = same_words(0, 300, 5)
    texts = describe_scenes(0, SHOWN, sample_scenes(0, SHOWN, 300), 5)
    assert list(found) == [str(number) for number in range(1, 1501)]
    for number, images in list(found.items())[::7]:
        own = texts[int(number) - 1]
        assert images == sorted({i // 5 + 1 for i, text in enumerate(texts) if text == own})
    assert max(map(len, found.values())) > 1


def test_no_scene_of_the_benchmarks_is_one_of_the_demo():
    assert not set(SCENES.values()) & set(sample_scenes(0, SHOWN, 80))
