"""The order in which training reads the stories that data.py has prepared.

Invariants: the order is a function of (seed, weights, epoch) alone; tokens are read from the files
when they are asked for, and an epoch takes 18 bytes of memory a story, so that 10 billion tokens
take no more work than a thousand.
"""
import bisect
import json
from pathlib import Path

import numpy as np


class TokenSet:
    """One part ("train" or "validation") of one prepared file: tokens and story offsets."""

    def __init__(self, folder, name, part):
        self.tokens = np.memmap(folder / f"{name}.{part}.bin", np.uint16, "r")
        self.offsets = np.load(folder / f"{name}.{part}.npy", mmap_mode="r")

    def __len__(self):
        return len(self.offsets) - 1

    def story(self, index):
        return self.tokens[self.offsets[index]:self.offsets[index + 1]]


class Epoch:
    """The stories of one epoch in reading order; their tokens stay in the files."""

    def __init__(self, sets, numbers, stories):
        """numbers [stories]: which of `sets`; stories [stories]: which story of it."""
        self.sets, self.numbers, self.stories = sets, numbers, stories
        lengths = np.empty(len(stories), np.int64)
        for number, tokens in enumerate(sets):
            mine = numbers == number
            lengths[mine] = np.diff(tokens.offsets)[stories[mine]]
        self.ends = np.cumsum(lengths)      # position after each story

    def __len__(self):
        return len(self.stories)

    @property
    def n_tokens(self):
        return int(self.ends[-1])

    def story(self, place):
        return self.sets[self.numbers[place]].story(self.stories[place])

    def length(self, places):
        """Tokens of the stories at these places."""
        return self.ends[places] - np.where(places == 0, 0, self.ends[places - 1])

    def read(self, start, count):
        """At most `count` tokens from position `start`, fewer at the end of the epoch."""
        place, pieces = int(np.searchsorted(self.ends, start, "right")), []
        while count > 0 and place < len(self):
            story = self.story(place)
            piece = story[len(story) - (int(self.ends[place]) - start):][:count]
            pieces.append(piece)
            start, count, place = start + len(piece), count - len(piece), place + 1
        return pieces


class TrainingOrder:
    """The endless training text: epochs of shuffled stories, by token position or by story.

    In each epoch a file of weight w gives w times its stories, going round its own shuffled list,
    so a weight below 1 still reads every story in the end.
    """

    def __init__(self, folder, weights, seed):
        folder = Path(folder)
        stats = json.loads((folder / "stats.json").read_text())
        self.seed, self.sets, self.weights = seed, [], []
        for name, entry in sorted(stats["files"].items()):
            weight = weights.get(name, entry["weight"])
            if weight > 0 and entry["train"]["stories"]:
                self.sets.append(TokenSet(folder, name, "train"))
                self.weights.append(weight)
        self.starts = [(0, 0)]      # first token position and first story of each epoch seen so far
        self.cached = (-1, None)

    def _epoch(self, epoch):
        if self.cached[0] != epoch:
            numbers, stories = [], []
            for number, (tokens, weight) in enumerate(zip(self.sets, self.weights)):
                count = len(tokens)
                first, last = int(weight * epoch * count), int(weight * (epoch + 1) * count)
                for turn in range(first // count, -(-last // count)):
                    order = np.random.default_rng((self.seed, number, turn)).permutation(count)
                    part = order[max(first - turn * count, 0):min(last - turn * count, count)]
                    numbers.append(np.full(len(part), number, np.uint16))
                    stories.append(part)
            numbers, stories = np.concatenate(numbers), np.concatenate(stories)
            order = np.random.default_rng((self.seed, 1 << 20, epoch)).permutation(len(stories))
            self.cached = (epoch, Epoch(self.sets, numbers[order], stories[order]))
            if len(self.starts) == epoch + 1:
                tokens, count = self.starts[epoch]
                found = self.cached[1]
                self.starts.append((tokens + found.n_tokens, count + len(found)))
        return self.cached[1]

    def _find(self, position, kind):
        """(epoch, position in it) of a token (kind 0) or story (kind 1)."""
        while self.starts[-1][kind] <= position:
            self._epoch(len(self.starts) - 1)
        number = bisect.bisect_right(self.starts, position, key=lambda start: start[kind]) - 1
        return self._epoch(number), position - self.starts[number][kind]

    def read(self, position, count):
        """Tokens [position, position + count) of the endless text."""
        pieces = []
        while count > 0:
            epoch, start = self._find(position, 0)
            found = epoch.read(start, count)
            pieces += found
            read = sum(map(len, found))
            position, count = position + read, count - read
        return np.concatenate(pieces)

    def story(self, number):
        """The tokens of story `number` of the endless text."""
        epoch, place = self._find(number, 1)
        return epoch.story(place)

    def lengths(self, number, count):
        """Tokens of the stories [number, number + count), without reading them."""
        found = []
        while count > 0:
            epoch, place = self._find(number, 1)
            places = np.arange(place, min(place + count, len(epoch)))
            found.append(epoch.length(places))
            number, count = number + len(places), count - len(places)
        return np.concatenate(found)
