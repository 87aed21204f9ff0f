#include "engine/state_slots.h"

#include "base/error.h"

namespace neutrino::engine {

StateSlots::StateSlots(int64_t sequences, int64_t snapshots, int64_t blocks)
    : sequences_(sequences),
      snapshots_(static_cast<size_t>(snapshots)),
      slot_of_block_(static_cast<size_t>(snapshots > 0 ? blocks : 0), kNoState) {
  for (int64_t slot = sequences - 1; slot >= 0; --slot) free_sequences_.push_back(static_cast<int32_t>(slot));
  for (int64_t slot = slots() - 1; slot >= sequences; --slot)
    free_snapshots_.push_back(static_cast<int32_t>(slot));
}

int32_t StateSlots::take() {
  check(!free_sequences_.empty(), "more sequences run than there are state slots");
  const int32_t slot = free_sequences_.back();
  free_sequences_.pop_back();
  return slot;
}

void StateSlots::give_back(int32_t slot) {
  check(slot >= 0 && slot < sequences_, "gave back a state slot that is no sequence's");
  free_sequences_.push_back(slot);
}

int32_t StateSlots::use_snapshot(int32_t block) {
  const int32_t slot = slot_of(block);
  check(slot != kNoState, "used a snapshot that is not there");
  unlink(slot);
  link_newest(slot);
  at(slot).used = true;
  return slot;
}

int32_t StateSlots::add_snapshot(int32_t block) {
  check(!has_snapshot(block), "a block gets a second snapshot");
  if (free_snapshots_.empty()) drop_snapshot(at(oldest_).block);
  const int32_t slot = free_snapshots_.back();
  free_snapshots_.pop_back();
  at(slot) = {.block = block};
  slot_of_block_[static_cast<size_t>(block)] = slot;
  link_newest(slot);
  ++taken_;
  return slot;
}

void StateSlots::drop_snapshot(int32_t block) {
  if (!has_snapshot(block)) return;
  const int32_t slot = slot_of(block);
  unlink(slot);
  at(slot).block = -1;
  slot_of_block_[static_cast<size_t>(block)] = kNoState;
  free_snapshots_.push_back(slot);
}

void StateSlots::drop_unused_snapshot(int32_t block) {
  if (has_snapshot(block) && !at(slot_of(block)).used) drop_snapshot(block);
}

void StateSlots::link_newest(int32_t slot) {
  at(slot).older = newest_;
  at(slot).newer = -1;
  (newest_ >= 0 ? at(newest_).newer : oldest_) = slot;
  newest_ = slot;
}

void StateSlots::unlink(int32_t slot) {
  const Snapshot& snapshot = at(slot);
  (snapshot.older >= 0 ? at(snapshot.older).newer : oldest_) = snapshot.newer;
  (snapshot.newer >= 0 ? at(snapshot.newer).older : newest_) = snapshot.older;
}

StateSlotCounts StateSlots::counts() const {
  return {sequences_ - static_cast<int64_t>(free_sequences_.size()),
          static_cast<int64_t>(snapshots_.size() - free_snapshots_.size())};
}

void StateSlots::check_invariants(const std::function<bool(int32_t block)>& named) const {
  int64_t listed = 0, tied = 0;
  for (int32_t slot = oldest_; slot >= 0; slot = at(slot).newer) {
    const int32_t block = at(slot).block;
    check(block >= 0 && slot_of(block) == slot, "a snapshot and its block disagree");
    check(named(block), "a snapshot outlived its block's name");
    ++listed;
  }
  for (const int32_t slot : slot_of_block_) tied += slot != kNoState;
  for (const int32_t slot : free_snapshots_) check(at(slot).block < 0, "a free snapshot belongs to a block");
  check(listed == tied && listed == counts().snapshots, "snapshots are lost");
  std::vector<bool> free(static_cast<size_t>(sequences_));
  for (const int32_t slot : free_sequences_) {
    check(!free[static_cast<size_t>(slot)], "a state slot was given back twice");
    free[static_cast<size_t>(slot)] = true;
  }
}

}  // namespace neutrino::engine
