//! The status machine under arbitrary sequences of commands.
//!
//! [`command`] generates sequences, [`script`] turns each command into what a server would do (load, decide, write),
//! [`memory`] is a store that is plain maps, and [`laws`] are what must hold after every step. The contract suite runs the
//! sequences over the maps alone, and in [`lockstep`] over real databases, which must load the same and keep the same.

pub mod command;
pub mod laws;
pub mod lockstep;
pub mod memory;
pub mod script;

use laws::Laws;
use memory::Memory;
use script::{Script, Task};

use crate::machine::command::Command;

/// A run over the maps alone. Answers what broke a law.
pub struct Pure {
    script: Script,
    memory: Memory,
    laws: Laws,
}

impl Pure {
    /// Before the first command.
    pub fn new() -> Self {
        let script = Script::new();
        let mut memory = Memory::default();
        memory.apply(&script.founding());
        Self {
            script,
            memory,
            laws: Laws::default(),
        }
    }

    /// Carries a sequence out and checks every law after every step.
    pub fn run(mut self, commands: &[Command]) -> Result<Laws, String> {
        for command in commands.iter().flat_map(Command::steps) {
            match command {
                Command::Advance(span) => self.script.now += span.delta(),
                Command::Fire => {
                    for timer in self.memory.take_due(self.script.now) {
                        self.step(&Task::Timer(timer))
                            .map_err(|fault| format!("a timer fired: {fault}"))?;
                    }
                }
                _ => {
                    if let Some(task) = self.script.task(&command) {
                        self.step(&task).map_err(|fault| format!("{command:?}: {fault}"))?;
                    }
                }
            }
            self.laws.check_clock(&self.memory, self.script.now)?;
        }
        Ok(self.laws)
    }

    fn step(&mut self, task: &Task) -> Result<(), String> {
        let mut loaded = self.memory.load(&self.script.keys(task));
        let (answer, changes) = self.script.decide(task, &mut loaded);
        self.memory.apply(&changes);
        self.script.learn(&changes);
        self.laws
            .check_step(&self.memory, self.script.now, task, &answer, &changes)
    }
}

impl Default for Pure {
    fn default() -> Self {
        Self::new()
    }
}
