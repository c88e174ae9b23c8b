//! A few calls, told: by which means, and what came back.

use byname::{CallError, Client, Code};
use serde_json::json;
use tokio::sync::oneshot;

use crate::Failure;
use crate::business::{Shop, ShopError, Summary};
use crate::data::{Product, StoreError};
use crate::page::{Page, euros, grouped};

pub async fn tell(page: &Page, shop: &Client) -> Result<(), Failure> {
    let summary = Shop::on(shop).order_summary(42).await?;
    page.step("typed", "Shop::on(&shop).order_summary(42)", &in_words(&summary));

    let found: Vec<Product> = shop.call("suggest", json!({"word": "teapot"})).await?;
    let teapot = found.first().ok_or("there is no teapot in the shop")?;
    let words: Vec<_> = found.iter().map(|product| format!("a {} at {}", product.name, euros(product.cents))).collect();
    page.step("by name", r#"shop.call("suggest", json!({"word": "teapot"}))"#, &words.join(", "));

    let (tell, told) = oneshot::channel();
    shop.call_then::<Summary>("order_summary", (7,), move |result| {
        let _ = tell.send(result);
    });
    let summary = told.await??;
    page.step("by callback", r#"shop.call_then("order_summary", (7,), |result| …)"#, &in_words(&summary));

    let call = format!("Shop::on(&shop).buy(42, {}, 1)", teapot.id);
    let receipt = Shop::on(shop).buy(42, teapot.id, 1).await?;
    let orders = format!("order {} at {}", grouped(receipt.order), euros(receipt.cents));
    page.step("a write", &call, &format!("{orders}; the customer has {} now", receipt.orders));

    let call = format!("Shop::on(&shop).buy(42, {}, 100)", teapot.id);
    match Shop::on(shop).buy(42, teapot.id, 100).await {
        Err(CallError::Method(ShopError::Store(StoreError::OutOfStock { product, wanted, left }))) => {
            let came = format!("OutOfStock: {wanted} pieces of \"{product}\" wanted, {left} left");
            page.step("a typed error", &call, &format!("{came} (the data tier's own type, through the business tier)"));
        }
        other => return Err(format!("a hundred teapots should be too many: {other:?}").into()),
    }

    match shop.call::<Summary>("order_sumary", (42,)).await {
        Err(CallError::Rpc(error)) if error.code() == Code::Unimplemented => {
            page.step("no such name", r#"shop.call("order_sumary", (42,))"#, &error.to_string());
        }
        other => return Err(format!("no function should be found by a name with a slip: {other:?}").into()),
    }
    Ok(())
}

fn in_words(summary: &Summary) -> String {
    let Summary { customer, city, orders, pieces, cents, last } = summary;
    let last = last.as_deref().map(|day| format!(", the last on {day}")).unwrap_or_default();
    format!("{customer} of {city}: {pieces} pieces in {orders} orders for {}{last}", euros(*cents))
}
