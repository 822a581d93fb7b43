//! Forgetting what was counted, so that programs that are loaded make a further recording.

use aya::Pod;
use aya::maps::{Array, HashMap, Map, MapError, PerCpuArray, PerCpuValues};
use aya::util::nr_cpus;

use super::layout::{
    BLOCK, Block, CELLS, CallKey, Cell, ENTRIES, ENTRY_FIRST, ImageKey, OPERATIONS, ProgramFile,
    ROW_FIRST, ROWS, Row, RowKey, Stats, Tally, WORKLOADS,
};
use super::{EbpfError, PROGRAMS, Recorder};

impl Recorder {
    /// Forgets what was counted, for a further recording by the same programs, which stay attached:
    /// loading them takes a hundred times as long. Returns whether it could: not while tasks are
    /// followed, and not once [`Recorder::detach`] was called.
    ///
    /// # Errors
    /// If a map cannot be written.
    pub fn clear(&mut self) -> Result<bool, EbpfError> {
        let stats = self.stats()?;
        if self.links.len() < PROGRAMS.len() {
            return Ok(false);
        }
        for workload in self.workloads() {
            if self.live(workload)? > 0 {
                return Ok(false);
            }
        }
        self.missed_before = self.missed()?;
        let cpus = nr_cpus().map_err(|(_, source)| EbpfError::Account(source))?;
        let used = |next: u32, first: u32, room: u32| next.saturating_add(first).min(room);
        let all_workloads = u32::try_from(WORKLOADS).unwrap_or(u32::MAX);
        let rows = used(stats.next_row, ROW_FIRST, ROWS);
        for (name, map) in self.ebpf.maps_mut() {
            let error =
                |source| EbpfError::Clear { map: name.to_owned(), source: Box::new(source) };
            match name {
                "entries" => {
                    let used = used(stats.next_entry, ENTRY_FIRST, ENTRIES).div_ceil(BLOCK);
                    let mut map = PerCpuArray::<_, Block>::try_from(map).map_err(error)?;
                    for index in 0..used {
                        let none = PerCpuValues::try_from(vec![Block::NONE; cpus])
                            .map_err(EbpfError::Account)?;
                        map.set(index, none, 0).map_err(error)?;
                    }
                    Ok(())
                }
                "rows" => clear_array(map, rows, Row::NONE),
                "row_marks" => clear_array(map, rows, 0_u32),
                "cells" => clear_array(map, used(stats.next_cell, 1, CELLS), Cell::NONE),
                "operations" if stats.operations > 0 => {
                    clear_array(map, all_workloads * OPERATIONS, 0_u64)
                }
                "row_keys" => clear_hash::<RowKey, u32>(map),
                "calls" => clear_hash::<CallKey, u32>(map),
                "errnos" => clear_hash::<u32, u64>(map),
                "images" => clear_hash::<ImageKey, ProgramFile>(map),
                "orphans" => clear_hash::<u64, u32>(map),
                "stats" => Array::try_from(map).and_then(|mut map: Array<_, Stats>| {
                    // Numbers that were never used go on from here; those that were are free.
                    map.set(0, Stats { next_task: stats.next_task, ..Stats::default() }, 0)
                }),
                "declared_ready" => clear_array(map, all_workloads, 0_u32),
                "tallies" => clear_array(map, all_workloads, Tally::default()),
                // A task's state begins when it gets its number, and what CPUs remember of it and
                // its storage have ended with it; what is known about an entry is written before
                // it is used. The workloads are set below. The rest is never written to, or only
                // read after it was.
                "states" | "numbers" | "last" | "tasks" | "abouts" | "workloads" | "scratch"
                | "operations" | "cgroups" | "namespaces" | ".rodata" | ".data" => Ok(()),
                other => unreachable!("nothing says what is to become of the map {other}"),
            }
            .map_err(error)?;
        }
        self.begin_workloads()?;
        self.named.fill(0);
        Ok(true)
    }
}

fn clear_array<V: Pod>(map: &mut Map, used: u32, none: V) -> Result<(), MapError> {
    let mut map = Array::<_, V>::try_from(map)?;
    (0..used).try_for_each(|index| map.set(index, none, 0))
}

fn clear_hash<K: Pod, V: Pod>(map: &mut Map) -> Result<(), MapError> {
    let mut map = HashMap::<_, K, V>::try_from(map)?;
    let keys = map.keys().collect::<Result<Vec<K>, _>>()?;
    keys.iter().try_for_each(|key| map.remove(key))
}
