//! What reports of several subcommands share: tables, plots, the HTML page, and the command that made them.

mod cell;
mod command;
mod page;
mod svg;
mod table;

pub(super) use cell::{Cell, number, percent, points};
pub(super) use command::Made;
pub(super) use page::page;
pub(super) use svg::{Mark, Plot, Scale, escaped};
pub(super) use table::{Table, loses_class, loses_words};
