//! What people ask of the ledger: reports, explanations, `can-i`. Everything here is worked out from the
//! rows when asked; nothing of it is kept, but for which ways lead on ([`super::live::Live::ways`]).

mod browse;
mod can_i;
mod case;
mod cut;
mod explain;
mod paths;
mod pods;
mod proof;
mod roles;
mod subjects;

pub use browse::{
    BindingFilter, Filter, Listed, Order, PodFilter, PodHas, RoleFilter, Slice, SubjectFilter,
    SubjectLine, WorkloadLine,
};
pub use can_i::{Allowed, Attributes, Question, Verdict};
pub(super) use case::Case;
pub use cut::{Cut, CutEntry};
pub use explain::{Evidence, ExplainedFinding, ExplainedStep, Explanation, ReachedBy};
pub use pods::{PodView, SecretView, TokenSource, TokenView};
pub use roles::{BindingView, RoleView};
pub use subjects::{FindingView, Grant, PathStep, SubjectView, Views};

use super::names::Sym;
use super::rows::{SubjectKey, ToKey};
use super::table::{Map, RowId};
use crate::risk::Priority;
use proof::{Entry, Part, Power, Sort};
use std::cell::RefCell;
use std::rc::Rc;

/// Members of a set that hold a priority, strongest first.
type Strongest = Rc<Vec<RowId>>;

/// What is worked out once and used for every subject of one report.
#[derive(Debug, Default)]
struct Asked {
    /// By set and priority.
    strongest: RefCell<Map<(ToKey, Priority), Strongest>>,
    /// The entries that apply to a subject, where they are many.
    entries: RefCell<Map<SubjectKey, Vec<Entry>>>,
    /// What a subject has by one entry, where it has many.
    powers: RefCell<Map<(SubjectKey, Entry), Power<'static>>>,
    /// The same by the sort of an entry, with the namespace that it lies in.
    by_sort: RefCell<Map<Sort, (Sym, Power<'static>)>>,
    /// The entries that a subject's part takes for a priority, with all of its entries there.
    needed: RefCell<Map<(RowId, Part, Priority), Vec<Entry>>>,
}
