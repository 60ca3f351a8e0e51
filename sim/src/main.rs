//! The world.
#![allow(clippy::unwrap_used)]
use bidmesh_sim::campaign;
fn main() {
    let a: Vec<String> = std::env::args().collect();
    if a[1] == "run" {
        let seed = a[2].parse().unwrap();
        let plan = bidmesh_sim::world::plan::Plan::draw(seed, bidmesh_sim::world::plan::Size::Drawn, &Default::default());
        println!("{plan}");
        let s = bidmesh_sim::world::World::new(plan, None).printing().play();
        println!("{:?}", s.violation);
        return;
    }
    let from: u64 = a[1].parse().unwrap();
    let n: u64 = a[2].parse().unwrap();
    println!("{}", campaign::swarm(from, n, None, |_| {}));
}
