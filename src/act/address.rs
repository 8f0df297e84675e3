//! Which addresses the requests of steps may go to: a name is looked up once, and what it leads to is checked.

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::str::FromStr;
use std::sync::Arc;

/// A range of addresses, as `10.0.0.0/8` or `fd00::/8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Network {
    base: IpAddr,
    bits: u32,
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let error = || format!("a range of addresses is `10.0.0.0/8` or `fd00::/8`, not `{text}`");
        let (base, bits) = text.split_once('/').ok_or_else(error)?;
        let base: IpAddr = base.parse().map_err(|_| error())?;
        let bits: u32 = bits.parse().map_err(|_| error())?;
        let most = if base.is_ipv4() { 32 } else { 128 };
        if bits > most {
            return Err(error());
        }
        Ok(Self { base, bits })
    }
}

impl Network {
    fn contains(&self, address: IpAddr) -> bool {
        match (self.base, address) {
            (IpAddr::V4(base), IpAddr::V4(address)) => {
                let rest = u32::MAX.checked_shr(self.bits).unwrap_or(0);
                base.to_bits() | rest == address.to_bits() | rest
            }
            (IpAddr::V6(base), IpAddr::V6(address)) => {
                let rest = u128::MAX.checked_shr(self.bits).unwrap_or(0);
                base.to_bits() | rest == address.to_bits() | rest
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

/// Whether an address belongs to nobody in particular on the internet: this machine, a private
/// network, a link, a cloud's metadata service. After RFC 6890 and its registries.
fn is_inside(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(it) => is_inside_v4(it),
        IpAddr::V6(it) => {
            let [first, second, ..] = it.segments();
            let embedded = match (first, second) {
                // NAT64 and 6to4 carry an address of the old kind.
                (0x64, 0xff9b) => embedded(it, 0),
                (0x2002, _) => embedded(it, 80),
                _ => None,
            };
            it.is_loopback()
                || it.is_unspecified()
                || it.is_multicast()
                || it.is_unique_local()
                || it.is_unicast_link_local()
                || first & 0xffc0 == 0xfec0
                || (first == 0x2001 && second == 0xdb8)
                || embedded.is_some_and(is_inside_v4)
        }
    }
}

fn embedded(address: Ipv6Addr, shift: u32) -> Option<Ipv4Addr> {
    let bits = u32::try_from((address.to_bits() >> shift) & u128::from(u32::MAX)).ok()?;
    Some(Ipv4Addr::from_bits(bits))
}

fn is_inside_v4(it: Ipv4Addr) -> bool {
    let [first, second, third, _] = it.octets();
    it.is_loopback()
        || it.is_private()
        || it.is_link_local()
        || it.is_broadcast()
        || it.is_multicast()
        || it.is_documentation()
        || first == 0
        || first >= 240
        || (first == 100 && (64..128).contains(&second))
        || (first == 192 && second == 0 && third == 0)
        || (first == 198 && (18..20).contains(&second))
}

/// What a name leads to, as the machine knows it.
type Found = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>>;

fn look_up(name: String) -> Found {
    Box::pin(async move { Ok(tokio::net::lookup_host((name, 0)).await?.collect()) })
}

/// Looks names up for the requests of steps. The connection is made to what was found and checked:
/// there is no second look-up that could find something else.
#[derive(Clone)]
pub(super) struct Resolver {
    networks: Arc<[Network]>,
    look_up: fn(String) -> Found,
}

impl Resolver {
    pub(super) fn new(networks: Vec<Network>) -> Self {
        Self { networks: networks.into(), look_up }
    }

    /// The addresses of a name that a request may go to; what is inside must be in a range that
    /// the settings name. `localhost` says itself where it leads.
    fn permitted(&self, name: &str, found: Vec<SocketAddr>) -> Result<Vec<SocketAddr>, String> {
        let is_permitted = |it: &SocketAddr| {
            let address = it.ip().to_canonical();
            !is_inside(address)
                || (name == "localhost" && address.is_loopback())
                || self.networks.iter().any(|it| it.contains(address))
        };
        let first = found.first().copied();
        let permitted: Vec<SocketAddr> = found.into_iter().filter(is_permitted).collect();
        match (permitted.is_empty(), first) {
            (false, _) => Ok(permitted),
            (true, None) => Err(format!("the name leads nowhere: `{name}`")),
            (true, Some(first)) => Err(format!(
                "the name leads to an address that is not public; if it should, add its range, \
                 such as `10.0.0.0/8`, to `http_allow`: `{name}` is `{}`",
                first.ip()
            )),
        }
    }
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let resolver = self.clone();
        Box::pin(async move {
            let found = (resolver.look_up)(name.as_str().to_owned()).await?;
            let permitted = resolver.permitted(name.as_str(), found)?;
            Ok(Box::new(permitted.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_inside_is_known_in_every_spelling() {
        for (address, inside) in [
            ("127.0.0.1", true),
            ("127.8.9.10", true),
            ("10.1.2.3", true),
            ("172.16.0.1", true),
            ("172.32.0.1", false),
            ("192.168.1.1", true),
            ("169.254.169.254", true),
            ("100.64.0.1", true),
            ("100.128.0.1", false),
            ("0.0.0.0", true),
            ("0.1.2.3", true),
            ("198.18.0.1", true),
            ("192.0.0.8", true),
            ("224.0.0.1", true),
            ("255.255.255.255", true),
            ("240.0.0.1", true),
            ("203.0.113.1", true),
            ("8.8.8.8", false),
            ("::1", true),
            ("::", true),
            ("::ffff:127.0.0.1", true),
            ("::ffff:8.8.8.8", false),
            ("fd00:ec2::254", true),
            ("fe80::1", true),
            ("fec0::1", true),
            ("ff02::1", true),
            ("64:ff9b::a9fe:a9fe", true),
            ("64:ff9b::808:808", false),
            ("2002:7f00:1::", true),
            ("2002:808:808::", false),
            ("2001:db8::1", true),
            ("2606:4700::1111", false),
        ] {
            assert_eq!(is_inside(address.parse().unwrap()), inside, "{address}");
        }
    }

    #[test]
    fn ranges_are_read_and_hold_what_they_say() {
        for (range, address, holds) in [
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("10.1.2.3/32", "10.1.2.3", true),
            ("10.1.2.3/32", "10.1.2.4", false),
            ("0.0.0.0/0", "169.254.169.254", true),
            ("fd00::/8", "fd12::1", true),
            ("fd00::/8", "10.0.0.1", false),
            ("::/0", "::1", true),
        ] {
            let network: Network = range.parse().unwrap();
            assert_eq!(network.contains(address.parse().unwrap()), holds, "{range} {address}");
        }
        for bad in ["10.0.0.0", "10.0.0.0/33", "fd00::/129", "a/8", "10.0.0/8", "/8", "10.0.0.0/-1"]
        {
            assert!(bad.parse::<Network>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_name_leads_only_where_it_may() {
        let resolver =
            |ranges: &[&str]| Resolver::new(ranges.iter().map(|it| it.parse().unwrap()).collect());
        let check = |name: &str, ranges: &[&str], found: &[&str]| {
            let found = found.iter().map(|it| SocketAddr::new(it.parse().unwrap(), 0)).collect();
            let permitted = resolver(ranges).permitted(name, found);
            permitted
                .map(|it| it.iter().map(|it| it.ip().to_string()).collect::<Vec<_>>().join(" "))
        };
        assert_eq!(check("a.example", &[], &["8.8.8.8"]), Ok("8.8.8.8".to_owned()));
        // One of two answers leads inside: only the other one is taken.
        assert_eq!(check("a.example", &[], &["127.0.0.1", "8.8.8.8"]), Ok("8.8.8.8".to_owned()));
        let error = check("a.example", &[], &["169.254.169.254"]).unwrap_err();
        assert!(error.contains("`http_allow`: `a.example` is `169.254.169.254`"), "{error}");
        assert!(check("a.example", &["10.0.0.0/8"], &["127.0.0.1"]).is_err());
        assert_eq!(check("a.internal", &["10.0.0.0/8"], &["10.2.3.4"]), Ok("10.2.3.4".to_owned()));
        assert_eq!(check("localhost", &[], &["127.0.0.1"]), Ok("127.0.0.1".to_owned()));
        assert!(check("localhost", &[], &["10.0.0.1"]).is_err());
        assert!(check("a.example", &[], &[]).is_err());
    }

    /// A name that leads to the listener first and elsewhere after that, as in DNS rebinding.
    #[tokio::test]
    async fn a_request_goes_to_the_address_that_was_checked() {
        use std::sync::atomic::{AtomicUsize, Ordering};
        static ASKED: AtomicUsize = AtomicUsize::new(0);
        let server = super::super::test_server::TestServer::start().await;
        let look_up: fn(String) -> Found = |_| {
            let asked = ASKED.fetch_add(1, Ordering::SeqCst);
            let address = if asked == 0 { [127, 0, 0, 1] } else { [169, 254, 169, 254] };
            Box::pin(async move { Ok(vec![SocketAddr::from((address, 0))]) })
        };
        for (ranges, reached) in [(vec!["127.0.0.0/8".parse().unwrap()], 1), (vec![], 1)] {
            let resolver = Resolver { look_up, ..Resolver::new(ranges) };
            let client = super::super::http::client_with(Some(&resolver)).unwrap();
            let url = format!("http://name.example:{}/status/200", server.address.port());
            drop(client.get(url).send().await);
            assert_eq!(server.seen().len(), reached);
        }
        assert_eq!(ASKED.load(Ordering::SeqCst), 2, "one look-up for each request");
    }
}
